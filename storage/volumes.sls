#!py
# Render pillar storage:volumes:<name> to storage_volume.* states; docs/reference/pillar.rst lists every key.
# Rendered by Python, so that no character of a name or a value can act as a template.


def run():
    if "storage_pillar.volumes" not in __salt__:
        # Salt or its Python is too old; or the modules are not synced, which Salt does by itself in a highstate alone.
        reason = __salt__.value().missing_fun_string("storage_pillar.volumes")
        text = f"{reason} If the formula's modules are not loaded on this minion, run saltutil.sync_all on it, and apply again."
        return {"storage-volumes-unsupported": {"test.fail_without_changes": [{"comment": f"FAILED_PRECONDITION: {text}"}]}}
    return {"include": ["storage.consumer"], **__salt__["storage_pillar.volumes"]()}
