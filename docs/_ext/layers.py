"""The figure and the table of the rooms: ``docs/layers.toml``, beside what the sources import.

``tests/unit/test_layers.py`` fails for an import that the table does not allow, and for a
permission that no source uses. So the figure shows the code as it is.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PACKAGE = "saltstorage"
GROUND = "ground"
#: Libraries that are slow to load or that one room answers for, by the name that Python imports.
WALLED = ("cinder", "cinderlib", "os_brick", "sqlalchemy", "tooz")

#: Left, top, width and height in the figure.
_Box = tuple[float, float, float, float]
# Sizes in the figure, in its own units.
_COLUMN, _ROW, _HEIGHT, _GAP, _EDGE = 122, 56, 34, 12, 14


@dataclass(frozen=True, kw_only=True)
class Room:
    """One room of the table.

    :ivar name: as in the figure; for a part of the package its dotted name.
    :ivar folder: below ``_utils/saltstorage``, or a loader folder of the checkout.
    :ivar purpose: its contents, in one line.
    :ivar imports: the rooms that it may import, besides the ground.
    :ivar libraries: those of :data:`WALLED` that it may import.
    :ivar column: its place in the figure, from the left.
    :ivar span: the columns that it fills there.
    """

    name: str
    folder: str
    purpose: str
    imports: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    column: int = 0
    span: int = 1

    @property
    def loader(self) -> bool:
        """Whether Salt loads its files, one by one."""
        return self.folder.startswith("_")


@dataclass(frozen=True, order=True)
class Arrow:
    """An import: a file of the checkout, its room, and the room or library that it imports."""

    room: str
    target: str
    file: str
    line: int


def load(path: Path) -> dict[str, Room]:
    """Return the rooms of ``docs/layers.toml``, or a file like it, from the bottom to the top."""
    rooms = {}
    for name, given in tomllib.loads(path.read_text()).items():
        imports, libraries = tuple(given.pop("imports", ())), tuple(given.pop("libraries", ()))
        rooms[name] = Room(name=name, imports=imports, libraries=libraries, **given)
    return rooms


def files(checkout: Path) -> dict[Path, str]:
    """Return the sources, each with the name of its room: the folder's, as in the table.

    >>> files(Path("."))[Path("_utils/saltstorage/consumer/devices/loop.py")]  # doctest: +SKIP
    'consumer.devices'
    """
    package = checkout / "_utils" / PACKAGE
    found = {path: ".".join(path.relative_to(package).parent.parts) or GROUND for path in sorted(package.rglob("*.py"))}
    for folder in ("_modules", "_states", "_runners", "_engines"):
        found |= dict.fromkeys(sorted((checkout / folder).glob("*.py")), folder)
    return {path.relative_to(checkout): room for path, room in found.items()}


def module_name(path: Path) -> str:
    """Return the dotted name by which a source is imported.

    >>> module_name(Path("_utils/saltstorage/bus/__init__.py"))
    'saltstorage.bus'
    """
    return ".".join(path.with_suffix("").parts[1:]).removesuffix(".__init__")


def imported(source: str, path: Path, *, types: bool = True) -> Iterator[tuple[str, int]]:
    """Yield the dotted name of every import of a source, also within functions, and its line.

    ``from a import b`` yields ``a.b``, since ``b`` may be a module.

    :param types: whether imports for type checking alone count.
    """
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    tree = ast.parse(source, str(path))
    left_out = set() if types else {line for node in ast.walk(tree) for line in _type_checking(node)}
    for node in ast.walk(tree):
        if getattr(node, "lineno", None) in left_out:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*parts, *([node.module] if node.module else [])])
            yield from ((f"{start}.{alias.name}", node.lineno) for alias in node.names)


def _type_checking(node: ast.AST) -> range:
    """Return the lines of a block that runs for type checking alone; none for another node."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return range(node.body[0].lineno, (node.body[-1].end_lineno or 0) + 1)
    return range(0)


def links(checkout: Path, *, types: bool = True) -> Iterator[tuple[Path, str, int]]:
    """Yield each import of the package or of a library in :data:`WALLED`.

    :param types: whether imports for type checking alone count.
    :returns: the source, the module or library that it imports, and the line.
    """
    sources = files(checkout)
    modules = {module_name(path) for path in sources if path.parts[0] == "_utils"}
    for path in sources:
        for name, line in imported((checkout / path).read_text(), path, types=types):
            parts = name.split(".")
            if parts[0] == PACKAGE:
                yield path, name if name in modules else ".".join(parts[:-1]), line
            elif parts[0] in WALLED:
                yield path, parts[0], line


def arrows(checkout: Path) -> list[Arrow]:
    """Return what the sources import from other rooms, and of :data:`WALLED`."""
    sources = files(checkout)
    rooms = {module_name(path): room for path, room in sources.items() if path.parts[0] == "_utils"}
    found = []
    for path, target, line in links(checkout):
        room, wanted = sources[path], rooms.get(target, target)
        if wanted != room:
            found.append(Arrow(room, wanted, str(path), line))
    return sorted(found)


def rows(rooms: Mapping[str, Room]) -> dict[str, int]:
    """Return the floor of each room: one above the highest that it imports.

    Loader files are all on the top floor.
    """
    found: dict[str, int] = {}
    for name, room in rooms.items():
        found[name] = 0 if name == GROUND else 1 + max((found[other] for other in room.imports), default=0)
    top = max(found[name] for name, room in rooms.items() if room.loader)
    return {name: top if rooms[name].loader else row for name, row in found.items()}


def reach(rooms: Mapping[str, Room], name: str) -> set[str]:
    """Return the rooms that a room imports, itself or through others."""
    found: set[str] = set()
    for other in rooms[name].imports:
        found |= {other} | reach(rooms, other)
    return found


def needed(rooms: Mapping[str, Room]) -> list[tuple[str, str]]:
    """Return the arrows that the figure draws: all that do not follow from others."""
    found = []
    for name, room in rooms.items():
        through = set().union(*(reach(rooms, other) for other in room.imports)) if room.imports else set()
        found += [(name, other) for other in room.imports if other not in through]
    return found


def draw(rooms: Mapping[str, Room]) -> str:
    """Return the figure as SVG, in the colours of the page around it."""
    floor = rows(rooms)
    top = max(floor.values())
    columns = max(room.column + room.span for room in rooms.values())
    width, height = columns * _COLUMN + 2 * _EDGE, (top + 1) * _ROW + 2 * _EDGE

    def box(room: Room) -> _Box:
        span = columns if room.name == GROUND else room.span
        y = _EDGE + (top - floor[room.name]) * _ROW + (_ROW - _HEIGHT) / 2
        return _EDGE + room.column * _COLUMN + _GAP / 2, y, span * _COLUMN - _GAP, _HEIGHT

    lines = [
        f'<svg class="layers" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="The rooms of the project; each imports only rooms below it">'
    ]
    lines += [_panel(name, [box(room) for room in rooms.values() if _within(room, name)]) for name in _wings(rooms)]
    boxes = [box(room) for room in rooms.values()]
    lines += [_arrow(box(rooms[upper]), box(rooms[lower]), boxes) for upper, lower in needed(rooms)]
    for room in rooms.values():
        x, y, w, h = box(room)
        label = room.name.rpartition(".")[2] if "." in room.name else room.name
        kind = "loader" if room.loader else "public" if room.purpose.startswith("public:") else "room"
        lines.append(
            f'<g class="{kind}"><title>{escape(room.name)}: {escape(room.purpose.replace("`", ""))}</title>'
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6"/>'
            f'<text x="{x + w / 2:g}" y="{y + h / 2 + 5:g}">{escape(label)}</text></g>'
        )
    return "\n".join([*lines, "</svg>"])


def _wings(rooms: Mapping[str, Room]) -> list[str]:
    """Return the rooms that have rooms within."""
    return [name for name in rooms if any(other.startswith(f"{name}.") for other in rooms)]


def _within(room: Room, wing: str) -> bool:
    return room.name == wing or room.name.startswith(f"{wing}.")


def _panel(name: str, boxes: Sequence[_Box]) -> str:
    left, top = min(x for x, _, _, _ in boxes), min(y for _, y, _, _ in boxes)
    right, bottom = max(x + w for x, _, w, _ in boxes), max(y + h for _, y, _, h in boxes)
    return (
        f'<rect class="wing" x="{left - 7:g}" y="{top - 7:g}" width="{right - left + 14:g}" height="{bottom - top + 14:g}" rx="10">'
        f"<title>{escape(name)}</title></rect>"
    )


def _arrow(upper: _Box, lower: _Box, boxes: Sequence[_Box]) -> str:
    """Return a curve from one box down to another: straight where nothing is between them."""
    left, right = max(upper[0], lower[0]), min(upper[0] + upper[2], lower[0] + lower[2])
    bulge = 0.0
    if left < right:
        start = end = (left + right) / 2
        if any(x < start < x + w and upper[1] < y < lower[1] for x, y, w, _ in boxes):
            # Around the box between them.
            start = end = right - 8
            bulge = 18
    else:
        start, end = upper[0] + upper[2] / 2, lower[0] + lower[2] / 2
        # Away from the middle, so that several arrows of one box do not lie on each other.
        aside = 1 if end > start else -1
        start, end = start + aside * upper[2] / 4, end - aside * lower[2] / 4
    above, below = upper[1] + upper[3], lower[1] - 5
    bend = min(40.0, (below - above) / 2)
    curve = f"M{start:g} {above:g}C{start + bulge:g} {above + bend:g} {end + bulge:g} {below - bend:g} {end:g} {below:g}"
    return f'<path class="arrow" d="{curve}"/><path class="head" d="M{end - 3.5:g} {below - 2:g}h7l-3.5 7z"/>'


def table(rooms: Mapping[str, Room]) -> list[str]:
    """Return the table in RST, the top first."""
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 27 41 32",
        "",
        "   * - Room",
        "     - Belongs there",
        "     - May import",
    ]
    for room in reversed(list(rooms.values())):
        path = "saltstorage" if room.name == GROUND else room.folder
        names = [*(f"``{name}``" for name in room.imports), *(f"*{name}*" for name in room.libraries)]
        imports = ", ".join(names) or ("Salt, no room" if room.name == GROUND else "the ground")
        lines += [f"   * - ``{path}/``", f"     - {room.purpose}", f"     - {imports}"]
    return lines


class Layers(SphinxDirective):
    """``.. layers:: figure`` or ``.. layers:: table`` puts the one or the other in its place."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return it; called by Sphinx."""
        source = Path(self.env.srcdir) / "layers.toml"
        self.env.note_dependency(str(source))
        rooms = load(source)
        if self.arguments[0] == "table":
            return self.parse_text_to_nodes("\n".join(table(rooms)))
        return [nodes.raw("", draw(rooms), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive; called by Sphinx."""
    app.add_directive("layers", Layers)
    return {"parallel_read_safe": True}
