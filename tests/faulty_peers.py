"""Faulty peers, in a module of their own so that another process can import them."""

from __future__ import annotations

import os

from benchmarks.peers.ram import Matrix


class Wrong(Matrix):
    """Returns the previous row."""

    def lookup(self, ids):
        return self.matrix[ids - 1]


class Dying(Matrix):
    """Kills its process."""

    def lookup(self, ids):
        os.kill(os.getpid(), 9)
        return super().lookup(ids)
