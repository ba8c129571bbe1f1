"""Can the database be written, and which schema has it: tried by the statements of real use, which are taken back."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, insert, update

from cds_service.store.append import append_in, batch_of, new_chain
from cds_service.store.database import Database, kind_of
from cds_service.store.decision import CardShown, Decision
from cds_service.store.feedback import insert_once
from cds_service.store.schema import desk_log, rule_stops, seen_tokens
from cds_service.store.schema_version import SchemaState, state_of

CARD = CardShown(uuid="", family="", indicator="", rules=(), workups=(), suggestions=(), digest="")
DECISION = Decision(
    decided_at="", request_id="", client_id="", service="", hook_instance="", as_of="", rule_set_version="",
    rule_set_hash="", outcomes={"": ""}, inputs={}, cards=(CARD,),
)  # fmt: skip
STATEMENT = {
    "received_at": "", "client_id": "", "service": "", "card_uuid": "", "outcome": "", "outcome_at": "",
    "suggestions": "[]", "comment_cut": False,
}  # fmt: skip
LOOK = {"at": "", "who": "", "role": "", "method": "", "route": "", "subject": "", "status": 0}
STOP = {"stopped_at": "", "stopped_by": "", "reason": ""}
LIFT = {"lifted_at": "", "lifted_by": "", "lift_reason": ""}


class StoreCondition(NamedTuple):
    """``schema``: the revision found, empty when none was. ``problem``: empty when the database can be written."""

    schema: str
    problem: str

    @property
    def writable(self) -> bool:
        """Whether decisions, feedback and tokens can be kept now."""
        return not self.problem


def condition_of(database: Database) -> StoreCondition:
    """How the database is now. Waits for it as long as any writer does (WAIT_SECONDS); raises nothing."""
    found = ""
    try:
        with database.trying() as connection:
            state, found = state_of(connection)
            if state is not SchemaState.CURRENT:
                return StoreCondition(found, f"its schema is {state.value}: cds-service db upgrade")
            _put_one_of_each(connection)
    except Exception as problem:  # whatever the driver says; its text may name server and user
        return StoreCondition(found, f"it cannot be written ({kind_of(problem)})")
    return StoreCondition(found, "")


def _put_one_of_each(connection: Connection) -> None:
    """One row into each table that the service writes: a right may be missing on any of them."""
    chain = new_chain()
    name = chain.writer  # nobody else's, so that workers that try at once do not wait for one another
    batch = batch_of([replace(DECISION, client_id=name)], chain, None)
    kept = {"writer": name, "seq": batch.end.seq, "decided_at": "", "key_id": "", "sealed": b""}
    append_in(connection, batch._replace(kept=[kept]))
    insert_once(connection, [STATEMENT | {"identity": name}])
    connection.execute(insert(seen_tokens).values(client_id="", jti=name, expires=0))
    connection.execute(insert(desk_log).values(LOOK))
    connection.execute(insert(rule_stops).values({"rule": name} | STOP | LIFT))
    connection.execute(update(rule_stops).where(rule_stops.c.rule == name).values(LIFT))
