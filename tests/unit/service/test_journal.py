"""The journal: once carried out, as often answered."""

import contextlib
import time

import pytest

from saltstorage.controller.schema import requests
from saltstorage.controller.service import Service

DATABASES = ("sqlite", "postgresql")


@pytest.fixture
def begin(service):
    def call(journal=None, request_id="r1", digest="d1"):
        return (journal or service.journal).begin(request_id, "web1", digest, "create", time.time())

    return call


def test_new_then_running_then_done(service, begin):
    assert begin().state == "new"
    assert begin().state == "running"
    service.journal.finish("r1", b"sealed")
    entry = begin()
    assert (entry.state, entry.reply) == ("done", b"sealed")


def test_a_repeat_with_other_contents_shows_the_first_digest(begin):
    begin()
    assert begin(digest="d2").digest == "d1"


def test_what_a_dead_engine_left_is_new_again_for_one_only(opts, service, begin):
    dead = Service(opts)
    assert begin(dead.journal).state == "new"
    assert begin().state == "running"
    dead.close()
    assert begin().state == "new"
    assert begin().state == "running"


def test_prune_keeps_what_may_be_repeated(service, begin):
    begin()
    service.journal.finish("r1", b"sealed")
    now = time.time()
    assert service.journal.prune(now - 60, now - 60) == 0
    assert service.journal.prune(now - 60, now + 60) == 0
    assert service.journal.prune(now + 60, now - 60) == 1
    assert service.journal.known("r1") is None


def test_prune_forgets_what_was_only_read_first(service):
    """An inventory of many volumes is large, and every state run asks for one."""
    now = time.time()
    for number, op in enumerate(("inventory", "inventory", "create")):
        assert service.journal.begin(f"r{number}", "web1", "d", op, now - 100).state == "new"
    service.journal.finish("r0", b"sealed")
    service.journal.finish("r2", b"sealed")
    assert service.journal.prune(now - 1000, now - 50) == 1
    assert service.journal.known("r0") is None
    assert {service.journal.known(key).state for key in ("r1", "r2")} == {"running", "done"}


def test_prune_keeps_what_runs(service, begin):
    begin()
    assert service.journal.prune(time.time() + 60, time.time() + 60) == 0
    assert begin().state == "running"


def test_of_two_engines_that_find_a_dead_one_only_the_first_takes_over(opts, service, begin, monkeypatch):
    """Databases other than SQLite let transactions read side by side: here the other engine comes between look and update."""
    dead, other = Service(opts), Service(opts)
    begin(dead.journal)
    dead.close()
    real = service.journal._engine

    class Between:
        """A connection whose update finds that another engine was faster."""

        def __init__(self, connection):
            self.connection = connection

        def execute(self, statement):
            if statement.is_update:
                self.connection.execute(requests.update().values(engine=other.journal._instance))
            return self.connection.execute(statement)

    class Engine:
        @contextlib.contextmanager
        def begin(self):
            with real.begin() as connection:
                yield Between(connection)

    monkeypatch.setattr(service.journal, "_engine", Engine())
    assert service.journal._known("r1").state == "running"
    other.close()
