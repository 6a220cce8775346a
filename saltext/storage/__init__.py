"""Block storage for Salt, as an extension: the name under which Salt finds the loader files.

In the wheel, ``modules``, ``states``, ``runners`` and ``engines`` lie beside this file, and the
package ``saltstorage`` in ``utils``; in the checkout they are ``_modules`` and so on.
``setup.py`` maps them. ``formula`` holds the SLS and the lock files.
"""
