"""Tables that a plan makes in a DuckDB session, each with its name and its columns."""

from __future__ import annotations

from dataclasses import dataclass

from ddb_lake.engine.session import Session


@dataclass(frozen=True, slots=True)
class SessionTable:
    """A table of a session, by its name and its columns. In an f-string it is its name.

    It is no temporary table in the sense of SQL: all cursors of the session read it.
    """

    name: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def create(self, session: Session, query: str) -> None:
        """Fill the table with the rows of a query, in place of those it has. The query must have the table's columns."""
        session.con.execute(f"CREATE OR REPLACE TABLE {self.name} AS SELECT {', '.join(self.columns)} FROM ({query})")

    def insert(self, session: Session, query: str) -> None:
        """Add the rows of a query, which must have the table's columns."""
        session.con.execute(f"INSERT INTO {self.name} SELECT {', '.join(self.columns)} FROM ({query})")

    def keep(self, session: Session, query: str, text: str | None = None) -> None:
        """As `create`, with the rows in a file of the work folder (`Session.keep`). `text`: a column of large texts."""
        session.keep(self.name, f"SELECT {', '.join(self.columns)} FROM ({query})", text=text)

    def count(self, session: Session) -> int:
        """The number of rows."""
        rows: int = session.value(f"SELECT count(*) FROM {self.name}")
        return rows
