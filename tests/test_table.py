"""The tables of geometry: fields have places in order, and a table is packed of all of them or not at all."""

from __future__ import annotations

import pytest

from eagerconv.kernels_cpu import table
from eagerconv.kernels_cpu.table import Table, as_table

TABLES = [value for value in vars(table).values() if isinstance(value, Table)]


def test_fields_follow_each_other_and_unused_places_are_zero():
    some = Table("some", "A B:3", "_:2 C")
    assert (some.A, some.B, some.C, some.LENGTH) == (0, 1, 6, 7)
    assert some.pack(C=7, A=1, B=[2, 3, 4]) == [1, 2, 3, 4, 0, 0, 7]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"A": 1}, r"no values for \['B'\], no fields for \[\]"),
        ({"A": 1, "B": (1, 2, 3), "C": 4}, r"no fields for \['C'\]"),
        ({"A": 1, "B": (1, 2)}, r"B has 3 numbers, not \(1, 2\)"),
        ({"A": 1, "B": 2}, "no len"),
    ],
)
def test_a_forgotten_an_unknown_and_a_wrong_field_are_told(values, message):
    with pytest.raises(TypeError, match=message):
        Table("some", "A B:3 _").pack(**values)


def test_numbers_for_a_field_of_one_number_make_no_table():
    with pytest.raises(ValueError, match="sequence"):
        as_table(Table("some", "A B:3").pack(A=(1, 2), B=(1, 2, 3)))


def test_no_field_is_named_twice():
    with pytest.raises(ValueError, match="two fields A"):
        Table("some", "A B A")


def test_shared_fields_are_at_the_same_places():
    shared = Table("shared", "A _ B")
    Table("some", "A C B D", shared=shared)
    for fields in ("A B C", "A C D"):
        with pytest.raises(ValueError, match="has B not where shared table has it"):
            Table("some", fields, shared=shared)


def test_numba_can_tell_the_tables_apart():
    assert len({str(some) for some in TABLES}) == len(TABLES)
