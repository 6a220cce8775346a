"""
The state that a wrong entry in pillar becomes.
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
            - comment: 'INVALID_ARGUMENT: storage:volumes must be a mapping of names, not list'
    """
    return {"name": name, "changes": {}, "result": False, "comment": comment}
