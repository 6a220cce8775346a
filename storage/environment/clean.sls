#!py
# Remove the storage environment; refused while volumes are attached. Do it last: without it, nothing can be detached.


def run():
    return {"storage-environment-clean": {"storage_environment.absent": [{"name": __salt__["storage_environment.folder"]()}]}}
