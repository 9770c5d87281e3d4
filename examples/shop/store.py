"""The shop's SQLite file. Every method is one transaction and blocks: call it from a thread."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Literal, cast

from examples.shop.errors import Refusal
from examples.shop.reading import NewOrder, NewRefund, Switches, money, now

# A row on its way to JSON.
Record = dict[str, Any]

FIRST_ORDER = 8801

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY, customer TEXT NOT NULL, email TEXT NOT NULL, amount_cents INTEGER NOT NULL,
    currency TEXT NOT NULL, country TEXT, status TEXT NOT NULL, placed_at TEXT NOT NULL,
    delivered_at TEXT, items TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS refunds (
    id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES orders (id), amount_cents INTEGER NOT NULL,
    currency TEXT NOT NULL, reason TEXT NOT NULL, idempotency_key TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY, order_id TEXT, idempotency_key TEXT, at TEXT NOT NULL, status INTEGER);
CREATE TABLE IF NOT EXISTS switches (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1), delay_before_seconds REAL NOT NULL DEFAULT 0,
    delay_after_seconds REAL NOT NULL DEFAULT 0, lose_answer INTEGER NOT NULL DEFAULT 0,
    fail INTEGER NOT NULL DEFAULT 0);
INSERT OR IGNORE INTO switches (only_row) VALUES (1);
CREATE INDEX IF NOT EXISTS refunds_of_order ON refunds (order_id);
CREATE INDEX IF NOT EXISTS attempts_of_order ON attempts (order_id);
"""


class Store:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._setting_up = Lock()
        self._is_set_up = False

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock from the first statement, so that check and insert cannot be parted."""
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as database:
            database.row_factory = sqlite3.Row
            # In WAL mode a commit survives a killed process; only a power cut could lose the last ones.
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA foreign_keys = ON")
            self._set_up_once(database)
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    def _set_up_once(self, database: sqlite3.Connection) -> None:
        with self._setting_up:
            if not self._is_set_up:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(SCHEMA)
                self._is_set_up = True

    # Orders

    def add_order(self, order: NewOrder) -> Record:
        # Decimals inside the items become strings, like all money here.
        values = {**order, "items": json.dumps(order["items"], default=str)}
        with self._transaction() as database:
            row = database.execute(
                f"INSERT INTO orders (id, {', '.join(values)}) VALUES ("
                f"(SELECT COALESCE(MAX(id) + 1, {FIRST_ORDER}) FROM orders), "
                f"{', '.join(':' + name for name in values)}) RETURNING *",
                values,
            ).fetchone()
        return _order(row)

    def orders(self) -> list[Record]:
        with self._transaction() as database:
            return [_order(row) for row in database.execute("SELECT * FROM orders ORDER BY id")]

    def order(self, order_id: str) -> Record:
        """Raises Refusal 404 when there is no such order."""
        with self._transaction() as database:
            return _order(_find_order(database, order_id))

    # Refunds

    def refund_once(self, wanted: NewRefund) -> tuple[Record, bool, bool]:
        """Record a refund, or find the one that the same key recorded before.

        Returns the refund, whether it is new, and whether `lose_answer` claims this answer.
        Raises Refusal: 404 no such order; 409 the key was used for another refund; 422 the currency
        is not the order's, or less than `amount` is left to refund.
        """
        with self._transaction() as database:
            row = database.execute(
                "SELECT * FROM refunds WHERE idempotency_key = ?", [wanted["idempotency_key"]]
            ).fetchone()
            is_new = row is None
            if is_new:
                row = self._add_refund(database, wanted)
            elif wanted.items() - {**dict(row), "order_id": str(row["order_id"])}.items():
                raise Refusal(409, "This Idempotency-Key was used for a different refund.")
            answer_is_lost = _use_switch(database, "lose_answer")
        return _refund(row), is_new, answer_is_lost

    def _add_refund(self, database: sqlite3.Connection, wanted: NewRefund) -> sqlite3.Row:
        order = _find_order(database, wanted["order_id"])
        if wanted["currency"] != order["currency"]:
            raise Refusal(422, f"currency must be {order['currency']}, the currency of the order.")
        refunded = database.execute(
            "SELECT COALESCE(SUM(amount_cents), 0) FROM refunds WHERE order_id = ?", [order["id"]]
        ).fetchone()[0]
        left = order["amount_cents"] - refunded
        if wanted["amount_cents"] > left:
            raise Refusal(422, f"amount is more than the {money(left)} {order['currency']} left on the order.")
        row: sqlite3.Row = database.execute(
            "INSERT INTO refunds (order_id, amount_cents, currency, reason, idempotency_key, created_at) "
            "VALUES (:order_id, :amount_cents, :currency, :reason, :idempotency_key, :created_at) "
            "RETURNING *",
            {**wanted, "order_id": order["id"], "created_at": now()},
        ).fetchone()
        return row

    def refunds(self, order_id: str | None) -> list[Record]:
        """All refunds, or those of one order, oldest first."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT * FROM refunds WHERE :order_id IS NULL OR CAST(order_id AS TEXT) = :order_id ORDER BY id",
                {"order_id": order_id},
            )
            return [_refund(row) for row in rows]

    # Attempts: every POST /refunds, whatever became of it. `status` is None until it was answered.

    def open_attempt(self, order_id: str | None, idempotency_key: str | None) -> int:
        with self._transaction() as database:
            attempt: int = database.execute(
                "INSERT INTO attempts (order_id, idempotency_key, at) VALUES (?, ?, ?) RETURNING id",
                [order_id, idempotency_key, now()],
            ).fetchone()[0]
        return attempt

    def close_attempt(self, attempt: int, status: int) -> None:
        with self._transaction() as database:
            database.execute("UPDATE attempts SET status = ? WHERE id = ?", [status, attempt])

    def attempts(self, order_id: str | None) -> list[Record]:
        with self._transaction() as database:
            rows = database.execute(
                "SELECT order_id, idempotency_key, at, status FROM attempts "
                "WHERE :order_id IS NULL OR order_id = :order_id ORDER BY id",
                {"order_id": order_id},
            )
            return [dict(row) for row in rows]

    # Switches

    def switches(self) -> Switches:
        with self._transaction() as database:
            row = database.execute(f"SELECT {', '.join(Switches.__annotations__)} FROM switches").fetchone()
        return cast(Switches, dict(row))

    def set_switches(self, switches: Switches) -> Switches:
        with self._transaction() as database:
            database.execute(f"UPDATE switches SET {', '.join(f'{name} = :{name}' for name in switches)}", switches)
        return switches

    def use_switch(self, name: Literal["fail", "lose_answer"]) -> bool:
        """Take one off a counting switch; False when it stands at 0."""
        with self._transaction() as database:
            return _use_switch(database, name)


def _use_switch(database: sqlite3.Connection, name: Literal["fail", "lose_answer"]) -> bool:
    return database.execute(f"UPDATE switches SET {name} = {name} - 1 WHERE {name} > 0").rowcount == 1


def _find_order(database: sqlite3.Connection, order_id: str) -> sqlite3.Row:
    row = database.execute("SELECT * FROM orders WHERE CAST(id AS TEXT) = ?", [order_id]).fetchone()
    if row is None:
        raise Refusal(404, f"There is no order {order_id}.")
    found: sqlite3.Row = row
    return found


def _order(row: sqlite3.Row) -> Record:
    record = dict(row)
    cents = record.pop("amount_cents")
    return {**record, "id": str(row["id"]), "amount": money(cents), "items": json.loads(row["items"])}


def _refund(row: sqlite3.Row) -> Record:
    record = dict(row)
    cents = record.pop("amount_cents")
    return {**record, "id": f"R{row['id']}", "order_id": str(row["order_id"]), "amount": money(cents)}
