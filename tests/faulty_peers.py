"""Peers that do wrong; in a module of their own, because another process must find them."""

from __future__ import annotations

import os

from embstore.bench.peers import Matrix


class Wrong(Matrix):
    """Returns the row before."""

    def lookup(self, ids):
        return self.matrix[ids - 1]


class Dying(Matrix):
    """Dies."""

    def lookup(self, ids):
        os.kill(os.getpid(), 9)
        return super().lookup(ids)
