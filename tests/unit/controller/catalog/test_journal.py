"""The journal: a request is carried out once, and answered as often as it comes."""

import contextlib
import time

import pytest

from saltstorage.controller.catalog import journal as journals
from saltstorage.controller.catalog.schema import requests
from saltstorage.controller.service import Service

DATABASES = ("sqlite", "postgresql", "mysql")


@pytest.fixture
def service(service):
    """The controller of an engine that lives."""
    service.journal.open()
    return service


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


def test_a_request_of_a_dead_engine_is_new_again_for_one_engine_only(opts, service, begin):
    dead = Service(opts)
    dead.journal.open()
    assert begin(dead.journal).state == "new"
    assert begin().state == "running"
    dead.close()
    assert begin().state == "new"
    assert begin().state == "running"


def test_prune_keeps_requests_that_may_be_repeated(service, begin):
    begin()
    service.journal.finish("r1", b"sealed")
    now = time.time()
    assert service.journal.prune(now - 60, now - 60) == 0
    assert service.journal.prune(now - 60, now + 60) == 0
    assert service.journal.prune(now + 60, now - 60) == 1
    assert service.journal.known("r1") is None


def test_prune_forgets_reads_first(service):
    """An inventory of many volumes is large, and every state run asks for one."""
    now = time.time()
    for number, op in enumerate(("inventory", "inventory", "create")):
        assert service.journal.begin(f"r{number}", "web1", "d", op, now - 100).state == "new"
    service.journal.finish("r0", b"sealed")
    service.journal.finish("r2", b"sealed")
    assert service.journal.prune(now - 1000, now - 50) == 1
    assert service.journal.known("r0") is None
    assert {service.journal.known(key).state for key in ("r1", "r2")} == {"running", "done"}


def test_prune_keeps_running_requests(service, begin):
    begin()
    assert service.journal.prune(time.time() + 60, time.time() + 60) == 0
    assert begin().state == "running"


def test_only_the_first_of_two_engines_resumes_a_request(opts, service, begin, monkeypatch):
    """Databases other than SQLite let transactions read side by side: here the other engine comes
    between look and update.
    """
    dead, other = Service(opts), Service(opts)
    other.journal.open()
    begin(dead.journal)
    dead.close()
    real = service.journal.engine

    class Between:
        """A connection whose update finds that another engine was faster."""

        def __init__(self, connection):
            self.connection = connection

        def execute(self, statement):
            if statement.is_update:
                self.connection.execute(requests.update().values(engine=other.journal.instance))
            return self.connection.execute(statement)

    class Engine:
        @contextlib.contextmanager
        def begin(self):
            with real.begin() as connection:
                yield Between(connection)

    monkeypatch.setattr(service.journal, "engine", Engine())
    assert service.journal._known("r1").state == "running"
    other.close()


@pytest.fixture
def left(opts, service):
    """Two requests that died with their engine: an old one, whose minion may still wait, and a
    young one.
    """
    now, dead = time.time(), Service(opts)
    for request_id in ("old", "young"):
        assert dead.journal.begin(request_id, "web1", "d", "disconnect", now).state == "new"
    dead.close()
    with service.catalog.engine.begin() as connection:
        connection.execute(requests.update().where(requests.c.id == "old").values(received=now - 1000))
    return {"old": now - 1000, "young": now}


def again(service, left, request_id):
    return service.journal.begin(request_id, "web1", "d", "disconnect", left[request_id]).state


def has_run(service, seconds):
    """Move the engine's start that many seconds into the past."""
    service.journal._started = time.monotonic() - seconds


def test_an_old_request_of_a_dead_engine_is_resumed_soon_after_a_start(service, left):
    has_run(service, 250)
    assert again(service, left, "old") == "new"
    assert again(service, left, "old") == "running"


def test_an_old_request_of_a_dead_engine_is_not_resumed_later(service, left):
    """An attacker could replay a recorded request, a disconnect say, when the host has connected
    again.
    """
    has_run(service, 301)
    assert again(service, left, "old") == "old"
    assert again(service, left, "young") == "new"


def test_a_request_that_was_not_resumed_is_not_at_the_next_start_either(opts, service, left):
    has_run(service, 301)
    service.journal.prune(time.time() - 86400, time.time() - 600)
    later = Service(opts)
    assert again(later, left, "old") == "old"
    assert again(later, left, "young") == "new"
    later.close()


def test_a_forgotten_old_request_is_not_new(service):
    """Between the look at it and its beginning it may have been pruned."""
    assert service.journal.begin("r1", "web1", "d", "create", time.time() - 301).state == "old"
    assert service.journal.known("r1") is None


def test_a_flood_of_requests_is_bounded(service, monkeypatch):
    """Young requests stay, or they could be replayed; no more are accepted. Other minions, and
    repeats, are served.
    """
    monkeypatch.setattr(journals, "MOST_REQUESTS", 10)
    begin = service.journal.begin
    states = [begin(f"r{number}", "web1", "d", "create", time.time()).state for number in range(30)]
    assert states == ["new"] * 10 + ["full"] * 20
    with service.catalog.engine.connect() as connection:
        assert len(connection.execute(requests.select()).all()) == 10
    assert begin("other", "db1", "d", "create", time.time()).state == "new"
    assert begin("r3", "web1", "d", "create", time.time()).state == "running"


def test_the_oldest_finished_requests_are_forgotten_first_and_running_ones_never(service, monkeypatch):
    monkeypatch.setattr(journals, "MOST_REQUESTS", 10)
    for number in range(10):
        assert service.journal.begin(f"r{number}", "web1", "d", "create", time.time()).state == "new"
        if number:
            service.journal.finish(f"r{number}", b"sealed")
    with service.catalog.engine.begin() as connection:
        connection.execute(requests.update().where(requests.c.id.not_in(["r1", "r9"])).values(received=time.time() - 301))
    assert service.journal.begin("more", "web1", "d", "create", time.time()).state == "new"
    known = {name for name in [*(f"r{number}" for number in range(10)), "more"] if service.journal.known(name)}
    # One runs, one is young; of the others, the newest.
    assert known == {"r0", "r1", "r5", "r6", "r7", "r8", "r9", "more"}


def test_a_flood_of_large_replies_is_bounded(service, monkeypatch):
    """Their requests stay known, so that none is carried out again."""
    monkeypatch.setattr(journals, "MOST_BYTES", 1000)
    begin, finish, known = service.journal.begin, service.journal.finish, service.journal.known
    begin("other", "db1", "d", "create", time.time())
    finish("other", b"x" * 300)
    begin("running", "web1", "d", "create", time.time())
    for number in range(20):
        begin(f"r{number}", "web1", "d", "create", time.time())
        finish(f"r{number}", b"x" * 300)
        replies = [known(f"r{each}").reply for each in range(number + 1)]
        assert sum(len(reply) for reply in replies if reply) <= 1000
        assert replies[-1] is not None
    assert known("r0") == journals.JournalEntry(state="done", digest="d", reply=None)
    assert begin("r0", "web1", "d", "create", time.time()).state == "done"
    assert known("running").state == "running"
    assert known("other").reply == b"x" * 300
