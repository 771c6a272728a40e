"""The executor's `running`: a set for Airflow, a map from task key to queueing for Windlass.

The same try of the same task is queued many times (deferral, reschedule, stuck requeue), so a late outcome of an
earlier queueing must not free the slot of the newer one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.models.taskinstancekey import TaskInstanceKey

if TYPE_CHECKING:
    from datetime import datetime


class RunningTasks(set[TaskInstanceKey]):
    """Keys that take a slot. Airflow counts them, looks them up and removes zombies; the rest goes by queueing."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self._queued_at: dict[TaskInstanceKey, datetime | None] = {}

    def hold(self, key: TaskInstanceKey, queued_at: datetime | None) -> None:
        """Take a slot for a queueing; None while its queued_dttm is not known. Replaces an earlier queueing."""
        super().add(key)
        self._queued_at[key] = queued_at

    def release(self, key: TaskInstanceKey, queued_at: datetime) -> bool:
        """Free the slot if it is held by this queueing (or by one not known yet)."""
        if key in self and self._queued_at.get(key) in (None, queued_at):
            self.discard(key)
            return True
        return False

    def queued_at(self, key: TaskInstanceKey) -> datetime | None:
        """queued_dttm of the queueing that holds the slot, if known."""
        return self._queued_at.get(key)

    def add(self, key: TaskInstanceKey) -> None:
        """Take a slot; keeps the queueing if the key is there already."""
        if key not in self:
            self.hold(key, None)

    def discard(self, key: object) -> None:
        """Free the slot, whoever holds it."""
        if key in self:
            self.remove(key)  # type: ignore[arg-type]

    def remove(self, key: TaskInstanceKey) -> None:
        """Free the slot; KeyError if there is none (Airflow's change_state counts on it)."""
        super().remove(key)
        self._queued_at.pop(key, None)

    def pop(self) -> TaskInstanceKey:
        """Free any slot."""
        key = super().pop()
        self._queued_at.pop(key, None)
        return key

    def clear(self) -> None:
        """Free all slots."""
        super().clear()
        self._queued_at.clear()
