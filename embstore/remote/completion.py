"""The end of a publish: a version becomes complete, and then the current one.

Both are steps that another publisher may have done, or that a removal may make impossible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embstore.errors import StoreBusyError
from embstore.formats.own import spec
from embstore.remote.pointer import Pointer, find_pointer, move_pointer, root_name
from embstore.remote.published import check_same

if TYPE_CHECKING:
    from embstore.remote.local_store import LocalStore
    from embstore.remote.objects import ObjectInfo, Objects

_TRIES = 10


def found_objects(objects: Objects, store: LocalStore) -> dict[str, ObjectInfo]:
    """Return the objects below the version's name."""
    return {info.name: info for info in objects.find(f"{store.version}/")}


def complete(objects: Objects, store: LocalStore) -> int:
    """Write the root metadata; return its size, or 0 if another publisher has written it."""
    _check_there(objects, store, {file.name: file.size for file in store.files})
    store.check_unchanged()
    if objects.put(root_name(store.version), store.root, if_absent=True) is None:
        check_same(objects, store)
        return 0
    return len(store.root)


def _check_there(objects: Objects, store: LocalStore, sizes: dict[str, int | None]) -> None:
    """Check that some objects are there, with these sizes, or any where it is None."""
    found = found_objects(objects, store)
    for file, size in sizes.items():
        name = f"{store.version}/{file}"
        if name in found and size in (None, found[name].size):
            continue
        now = f"has {found[name].size} bytes, not {size}" if name in found else "is missing"
        raise StoreBusyError(
            f"{objects.where(name)} {now}, after it was written: another program changes or "
            "removes what is published; publish it again"
        )


def check_stays(objects: Objects, store: LocalStore, pointer: Pointer | None) -> None:
    """Raise StoreBusyError if the version is being removed."""
    if pointer is not None and pointer.is_removing(store.version):
        raise StoreBusyError(
            f"the version {store.version} is being removed from {objects.url}; publish it again "
            "when that has ended, or an hour after it was interrupted"
        )


def make_current(objects: Objects, store: LocalStore, before: Pointer | None) -> None:
    """Move the pointer to a version, unless another publisher has moved it to another one."""
    sizes: dict[str, int | None] = {file.name: file.size for file in store.files}
    sizes[spec.METADATA] = None  # That of another build of the same table may be there.
    pointer = before
    for _ in range(_TRIES):
        if pointer is not None and pointer.version == store.version:
            return
        # After the pointer was read: if it has not changed since, none of these is being removed.
        _check_there(objects, store, sizes)
        if move_pointer(objects, pointer, store.version) is not None:
            return
        pointer = find_pointer(objects)
        version = None if pointer is None else pointer.version
        if version not in (None if before is None else before.version, store.version):
            named = "removed it" if version is None else f"made {version} the current version"
            raise StoreBusyError(
                f"another publisher {named} at {objects.url} meanwhile, so {store.version} is "
                "published there, but not current; publish it again to make it current"
            )
        check_stays(objects, store, pointer)
    raise StoreBusyError(f"{objects.where(spec.POINTER)} changes all the time; publish it again")
