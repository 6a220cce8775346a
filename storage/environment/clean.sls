#!py
# Remove the storage environment; refused while volumes are attached. Do it last: without it, nothing can be detached.


def run():
    if "storage_environment.folder" not in __salt__:
        reason = __salt__.value().missing_fun_string("storage_environment.folder")
        text = f"{reason} If the formula's modules are not loaded on this minion, run saltutil.sync_all on it, and apply again."
        return {"storage-environment-unsupported": {"test.fail_without_changes": [{"comment": f"FAILED_PRECONDITION: {text}"}]}}
    return {"storage-environment-clean": {"storage_environment.absent": [{"name": __salt__["storage_environment.folder"]()}]}}
