"""A model of a disk after a power cut: it keeps what a file system promises, and nothing else.

1. A file's bytes are on disk once the file is flushed. Of later writes, any first part may be on
   disk, or the length with zeros for bytes.
2. A directory's entries are on disk once the directory is flushed. Of later changes (entries made,
   renamed, exchanged or removed), any may be on disk, whatever happened in other directories. But a
   rename or exchange is on disk as a whole or not at all, and a change that follows from a lost one
   is lost, too.
3. A link is one more entry of the same file: a flush under one name flushes the file, and after a
   power cut all names that are left have the same bytes. A clone and a copied range are writes.
4. A flush of the whole file system puts everything on disk.

So the model may lose more than any one file system does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.campaigns.faults import Step

# A directory's entries by name: the bytes of a file, or another tree.
Tree = dict[str, "bytes | Tree"]


@dataclass(slots=True)
class File:
    """A file: its bytes on disk, and writes that may be lost."""

    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def flush(self) -> None:
        """Put everything on disk."""
        self.durable = self.bytes_after(len(self.pending))
        self.pending.clear()

    def bytes_after(self, count: int, kept: int | None = None, *, zeros: bool = False) -> bytes:
        """Return the bytes after ``count`` pending writes, of the last of them ``kept`` bytes."""
        data = bytearray(self.durable)
        for number, (offset, written) in enumerate(self.pending[:count], 1):
            some = written[:kept] if number == count else written
            data.extend(bytes(max(offset + len(some) - len(data), 0)))
            data[offset : offset + len(some)] = bytes(len(some)) if zeros else some
        return bytes(data)

    def cut(self, random_numbers: random.Random, found: dict[int, bytes]) -> bytes:
        """Return a possible content after a power cut; under another name, the same."""
        if id(self) not in found:
            found[id(self)] = self._cut(random_numbers)
        return found[id(self)]

    def _cut(self, random_numbers: random.Random) -> bytes:
        count = random_numbers.randint(0, len(self.pending))
        last = len(self.pending[count - 1][1]) if count else 0
        kept = random_numbers.choice((last, random_numbers.randint(0, last)))
        return self.bytes_after(count, kept, zeros=random_numbers.random() < 0.2)


@dataclass(slots=True)
class Directory:
    """A directory: its entries on disk, and changes of one or two names that may be lost."""

    durable: dict[str, Node] = field(default_factory=dict)
    pending: list[dict[str, Node | None]] = field(default_factory=list)

    def entries(self) -> dict[str, Node]:
        """Return the entries as a process sees them."""
        return _applied(self.durable, self.pending)

    def flush(self) -> None:
        """Put everything on disk."""
        self.durable = self.entries()
        self.pending.clear()

    def flush_all(self) -> None:
        """Put everything below it on disk, too."""
        self.flush()
        for node in self.durable.values():
            node.flush() if isinstance(node, File) else node.flush_all()

    def cut(self, random_numbers: random.Random, found: dict[int, bytes] | None = None) -> Tree:
        """Return a possible content after a power cut.

        Parameters
        ----------
        random_numbers : random.Random
            The source of all random choices.
        found : dict of int to bytes, optional
            What files have, by their ``id``, as far as it was chosen.
        """
        found = {} if found is None else found
        chance = random_numbers.choice((0.1, 0.5, 0.9))
        lost: set[str] = set()
        kept = []
        for change in self.pending:
            if lost & change.keys() or random_numbers.random() < chance:
                lost |= change.keys()
            else:
                kept.append(change)
        entries = _applied(self.durable, kept)
        return {name: node.cut(random_numbers, found) for name, node in entries.items()}

    def least(self) -> Tree:
        """Return the content if everything not flushed is lost."""
        return {
            name: node.durable if isinstance(node, File) else node.least()
            for name, node in self.durable.items()
        }

    def most(self) -> Tree:
        """Return the content if nothing is lost, as after a killed process."""
        return {
            name: node.bytes_after(len(node.pending)) if isinstance(node, File) else node.most()
            for name, node in self.entries().items()
        }


Node = File | Directory


class Disk:
    """A folder as it is on disk, step after step.

    Parameters
    ----------
    folder : Path
        The initial content, all of it flushed.
    """

    def __init__(self, folder: Path) -> None:
        self.root = _load(folder)

    def do(self, step: Step) -> None:
        """Do a step of a log whose paths are relative to the folder."""
        parent, name = self._directory(step.path.parent), step.path.name
        match step.kind:
            case "mkdir":
                parent.pending.append({name: Directory()})
            case "create":
                parent.pending.append({name: File()})
            case "write":
                self._file(step.path).pending.append((step.offset, step.data))
            case "link":
                to = _given(step)
                self._directory(to.parent).pending.append({to.name: self._file(step.path)})
            case "clone" | "copy":
                self._file(_given(step)).pending.append((step.offset, step.data))
            case "flush":
                self._node(step.path).flush()
            case "syncfs":
                self.root.flush_all()
            case "check":
                pass  # It only tells of errors.
            case "unlink" | "rmdir":
                parent.pending.append({name: None})
            case "rename" | "exchange":
                to = _given(step)
                if to.parent != step.path.parent:
                    raise ValueError(f"{step.kind} from one directory to another: {step}")
                entries = parent.entries()
                other = entries[to.name] if step.kind == "exchange" else None
                parent.pending.append({to.name: entries[name], name: other})
            case _:
                raise ValueError(f"unknown kind of step: {step}")

    def _node(self, path: Path) -> Node:
        node: Node = self.root
        for name in path.parts:
            if isinstance(node, File):
                raise NotADirectoryError(path)
            node = node.entries()[name]
        return node

    def _directory(self, path: Path) -> Directory:
        node = self._node(path)
        if isinstance(node, File):
            raise NotADirectoryError(path)
        return node

    def _file(self, path: Path) -> File:
        node = self._node(path)
        if isinstance(node, Directory):
            raise IsADirectoryError(path)
        return node


def _given(step: Step) -> Path:
    """Return the second path of a step."""
    if step.to is None:
        raise ValueError(f"a step of one path: {step}")
    return step.to


def write_tree(tree: Tree, folder: Path) -> None:
    """Write a tree into a new folder."""
    folder.mkdir()
    for name, content in tree.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            write_tree(content, folder / name)


def _load(folder: Path, files: dict[int, File] | None = None) -> Directory:
    """Return a folder; ``files`` are those found so far, by inode, as one may have two names."""
    files = {} if files is None else files
    return Directory(
        {
            path.name: _load(path, files)
            if path.is_dir()
            else files.setdefault(path.stat().st_ino, File(path.read_bytes()))
            for path in folder.iterdir()
        }
    )


def _applied(durable: dict[str, Node], changes: list[dict[str, Node | None]]) -> dict[str, Node]:
    entries: dict[str, Node | None] = dict(durable)
    for change in changes:
        entries |= change
    return {name: node for name, node in entries.items() if node is not None}
