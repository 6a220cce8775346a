#!py
# Render pillar storage:volumes:<name> to storage_volume.* states; docs/reference/pillar.rst lists every key.
# Rendered by Python, so that no character of a name or a value can act as a template.


def run():
    return {"include": ["storage.consumer"], **__salt__["storage_pillar.volumes"]()}
