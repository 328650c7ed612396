"""The plan of a lookup at servers: what it would ask, and how many bytes would travel."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """The part of a lookup that servers with the same partitions answer.

    Attributes
    ----------
    servers : tuple of str
        Addresses of the replicas; one of them is asked.
    partitions : tuple of int
        The partitions touched there.
    row_count, request_count : int
        Rows asked for, and in how many requests.
    """

    servers: tuple[str, ...]
    partitions: tuple[int, ...]
    row_count: int
    request_count: int


@dataclass(frozen=True, slots=True)
class RemotePlan:
    """The plan of a lookup at servers; it prints as a table.

    Attributes
    ----------
    row_count, distinct_row_count : int
        Rows requested, and distinct ones among them. A row that is requested twice is sent twice.
    partition_count, server_count, request_count : int
        Partitions touched, servers asked, and requests to them.
    bytes_needed : int
        Bytes of the distinct rows, as they are stored.
    bytes_sent, bytes_received : int
        Bytes of ids and of rows that travel, without what the protocol adds.
    groups : tuple of RequestGroup
        The parts.
    """

    row_count: int
    distinct_row_count: int
    partition_count: int
    server_count: int
    request_count: int
    bytes_needed: int
    bytes_sent: int
    bytes_received: int
    groups: tuple[RequestGroup, ...] = field(repr=False)

    def summary(self) -> dict[str, int]:
        """Return the plan's numbers by name, without its groups."""
        return {
            "rows": self.row_count,
            "distinct rows": self.distinct_row_count,
            "partitions": self.partition_count,
            "servers": self.server_count,
            "requests": self.request_count,
            "bytes needed": self.bytes_needed,
            "bytes sent": self.bytes_sent,
            "bytes received": self.bytes_received,
        }

    def __str__(self) -> str:
        lines = [f"{name:<20}{value:>15,}" for name, value in self.summary().items()]
        lines += ["", f"{'partitions':>10}{'requests':>10}{'rows':>15}  servers"]
        shown = self.groups[:10]
        lines += [
            f"{len(group.partitions):>10}{group.request_count:>10}{group.row_count:>15,}  "
            f"{', '.join(group.servers)}"
            for group in shown
        ]
        if len(self.groups) > len(shown):
            lines.append(f"... and {len(self.groups) - len(shown)} more groups of servers")
        return "\n".join(lines)
