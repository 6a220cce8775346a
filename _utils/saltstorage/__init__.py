"""Block storage for Salt: a controller on the master, consumers on the minions.

The package holds all the logic; the files in ``_modules``, ``_states``, ``_runners`` and
``_engines`` are adapters to Salt's loader.  Importing the package must stay cheap: os-brick,
cinder, cinderlib and SQLAlchemy are imported inside the functions that need them.
"""

__version__ = "1.0.0"
