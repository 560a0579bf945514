"""What is read off the text of a query: its values by name, and what may be written next."""

from __future__ import annotations

import pytest

from epsilon_lab.workspace.sql_text import prepare, propose

TABLES = {"runs": ("run_id", "name"), "tasks": ("run_id", "task_id", "status"), "cases": ("run_id", "case_id")}


@pytest.mark.parametrize(
    ("text", "query", "names"),
    [
        ("where a = $x and b = :y or c in (:x)", "where a = $x and b = $y or c in ($x)", ("x", "y")),
        ("select a::int, l[1:n], {'k':v}, x[:n]", None, ()),
        ("select '$a :b', \"$c\", $$ $d $$, $t$ :e $t$ -- $f\n, /* :g \n*/ 'it''s :h'", None, ()),
        ("-- it's\n where a = :x", "-- it's\n where a = $x", ("x",)),
    ],
)
def test_values_are_found_where_they_stand_and_nowhere_else(text, query, names):
    assert prepare(text) == (query or text, names)


@pytest.mark.parametrize(
    ("text", "fragment", "words"),
    [
        ("select sta^ from tasks", "sta", ["status", "starts_with"]),
        ("select t.^ from runs r join tasks as t", "", ["run_id", "task_id", "status"]),
        ("select r.^, 'runs x' from tasks, runs r", "", ["run_id", "name"]),
        ("select x.^ from tasks", "", []),
        ("select * from ^", "", ["runs", "tasks", "cases"]),
        ("select * from tasks t, r^", "r", ["runs"]),
        ("select 1 from tasks group by status, tas^", "tas", ["task_id", "tasks"]),
        ("select cas^", "cas", ["case_id", "cases", "case", "cast"]),
        ("SELECT 1 FROM tasks GRO^", "GRO", ["GROUP"]),
        ("where name = 'or^' and 1", "or", ["orders", "or''s"]),
        ("where a = 'x' and name in ('orders', 'e^", "e", ["else"]),
        ("where name = $ru^", "ru", ["run"]),
        ('select * from "ord^', "ord", ["orders/a.csv", 'orders/b""c.csv']),
        ('select "x" from \'ord^', "ord", ["orders"]),
        ("select 1 -- from ^", "", []),
        ("select 1 -- it's ^", "", []),
        ("select '--', sta^ from tasks", "sta", ["status", "starts_with"]),
        ("select 1 /* from ^", "", []),
    ],
)
def test_what_may_be_written_next(text, fragment, words):
    before, after = text.split("^")
    names = ("orders", "or's", "else")
    files = ("orders/a.csv", 'orders/b"c.csv', "else/a.csv")
    proposal = propose(before, after, TABLES, names=lambda: names, files=lambda: files, variables=("run", "other"))
    assert (proposal.fragment, list(proposal.words)) == (fragment, words)
