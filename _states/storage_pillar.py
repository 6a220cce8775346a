"""
The states that a wrong or a doubtful entry in pillar becomes.
"""

__virtualname__ = "storage_pillar"


def __virtual__():
    return __virtualname__


def invalid(name, comment):
    """
    Fail with the reason why an entry in pillar cannot be used.

    The state fails in test mode too, and changes nothing.

    The formula's SLS files render this state. It has no use elsewhere.

    name
        Where the entry stands in pillar.
    comment
        The error, beginning with its code.

    .. code-block:: yaml

        storage-volumes-invalid:
          storage_pillar.invalid:
            - name: storage:volumes
            - comment: 'INVALID_ARGUMENT: storage:volumes must be a mapping of names, not a list'
    """
    return {"name": name, "changes": {}, "result": False, "comment": comment}


def note(name, comment):
    """
    Succeed with a warning about an entry in pillar, and change nothing.

    Salt shows the text below the state and counts it in the summary.

    The formula's SLS files render this state. It has no use elsewhere.

    name
        Where the entry stands in pillar.
    comment
        The warning.

    .. code-block:: yaml

        storage-volumes-rounded-data:
          storage_pillar.note:
            - name: storage:volumes:data
            - comment: "size '500MiB' is rounded up to 1 GiB"
    """
    return {"name": name, "changes": {}, "result": True, "comment": "Nothing was done here.", "warnings": [comment]}
