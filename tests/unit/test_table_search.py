"""When a client asks for a table, and whom: by the verbs of the search alone."""

import random
from itertools import pairwise

import pytest

from gimmal.client.table_search import TableSearch

NODES = ["a", "b", "c"]
START = 100.0


def search_at(version: int, seed: int = 1) -> TableSearch:
    """A search that has just found a table."""
    search = TableSearch(random.Random(seed), START)
    address = search.choose(NODES, START)
    assert address is not None
    search.on_answer(address, version, START)
    assert search.at == float("inf")
    return search


def ask(search: TableSearch, ready: list[str] = NODES) -> tuple[str, float]:
    """Let the time of the next question come; return whom it is for and when."""
    now = search.at
    assert now < float("inf"), "there is nothing to ask for"
    address = search.choose(ready, now)
    assert address is not None
    assert search.at > now, "it would be asked again at once"
    return address, now


@pytest.mark.parametrize("seed", range(10))
def test_the_node_that_told_is_asked_once_and_soon(seed: int) -> None:
    search = search_at(1, seed)
    search.on_told("b", 2, START)
    search.on_told("b", 2, START + 0.01)
    address, at = ask(search)
    assert address == "b"
    assert START <= at <= START + 0.05
    search.on_answer("b", 2, at)
    assert search.at == float("inf")


def test_of_several_that_told_the_best_informed_is_asked_and_no_other() -> None:
    search = search_at(1)
    for address, version in (("a", 2), ("c", 4), ("b", 3)):
        search.on_told(address, version, START)
    address, at = ask(search)
    assert address == "c"
    search.on_answer("c", 4, at)
    assert search.at == float("inf")


def test_what_others_told_of_remains_when_the_answer_is_older() -> None:
    search = search_at(1)
    search.on_told("a", 3, START)
    address, at = ask(search)
    search.on_told("b", 4, at)
    search.on_answer("a", 3, at + 0.01)
    assert (address, ask(search)[0]) == ("a", "b")


def test_a_table_that_is_wanted_is_asked_for_at_once_and_once() -> None:
    search = search_at(1)
    for _ in range(3):
        search.want(START)
    address, at = ask(search)
    assert at == START
    search.want(at)  # while the answer is on its way
    search.on_answer(address, 1, at + 0.01)
    assert search.at == float("inf")


def test_answers_without_news_are_asked_for_less_and_less_often_up_to_half_a_second() -> None:
    search = search_at(1)
    times: list[float] = []
    for _ in range(20):
        search.want(times[-1] if times else START)
        address, at = ask(search)
        search.on_answer(address, 1, at)
        times.append(at)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[0] <= 0.1
    assert all(0.25 <= gap <= 0.5 for gap in gaps[5:])
    search.want(times[-1] + 10.0)
    assert search.at == times[-1] + 10.0


def test_who_does_not_answer_is_given_up_for_another_and_each_wait_is_twice_as_long() -> None:
    search = search_at(1)
    search.want(START)
    asked = [ask(search) for _ in range(12)]
    assert all(first[0] != second[0] for first, second in pairwise(asked))
    gaps = [second[1] - first[1] for first, second in pairwise(asked)]
    assert gaps[:5] == pytest.approx([0.3, 0.6, 1.2, 2.4, 4.8])
    assert gaps[5:] == pytest.approx([9.6, *[10.0] * 5])


def test_all_nodes_are_tried_before_one_is_asked_again() -> None:
    for seed in range(10):
        search = search_at(1, seed)
        search.want(START)
        assert sorted(ask(search)[0] for _ in NODES) == NODES


def test_an_answer_that_took_long_is_waited_for_the_next_time() -> None:
    search = search_at(1)
    search.want(START)
    first, at = ask(search, ["a"])
    ask(search, ["a"])
    search.on_answer(first, 2, at + 0.9)
    search.want(START + 10.0)
    _, at = ask(search, ["a"])
    assert search.at == pytest.approx(at + 1.2)  # twice what is known to be too little at least


def test_a_demand_does_not_wait_after_answers_without_news() -> None:
    search, now = search_at(1), START
    for _ in range(20):
        search.demand(now)
        address, at = ask(search)
        assert at == now
        assert search.on_answer(address, 1, at + 0.01) == at
        now = at + 0.01
    assert search.at == float("inf")


def test_a_demand_waits_for_the_answer_that_is_on_its_way() -> None:
    search = search_at(1)
    search.want(START)
    first, at = ask(search)
    give_up_at = search.at
    search.demand(at + 0.01)
    assert search.at == give_up_at
    search.on_answer(first, 1, at + 0.02)
    search.demand(at + 0.02)
    assert search.at == at + 0.02


def test_an_answer_to_no_question_says_so() -> None:
    assert search_at(1).on_answer("a", 2, START) is None


def test_a_late_answer_settles_everything() -> None:
    search = search_at(1)
    search.want(START)
    first, _ = ask(search)
    second, at = ask(search)
    search.on_answer(first, 2, at + 0.01)
    assert search.at == float("inf")
    search.on_answer(second, 2, at + 0.02)
    assert search.at == float("inf")


def test_who_tells_of_a_table_that_is_not_there_is_believed_less_and_less() -> None:
    search = search_at(1)
    now, times = START, []
    while now < START + 600.0:
        search.on_told("a", 2**63 - 1, now)  # in every message
        if search.at <= now:
            assert ask(search)[0] == "a"
            search.on_answer("a", 1, now)
            times.append(now)
        now += 0.1
    assert 20 <= len(times) <= 50  # in ten minutes
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) <= 30.2
    assert min(gaps[7:]) >= 15.0


def test_a_liar_does_not_slow_down_what_others_tell() -> None:
    search = search_at(1)
    search.on_told("a", 2**62, START)
    _, now = ask(search)
    search.on_answer("a", 1, now)
    for version in range(2, 10):
        now += 1.0
        search.on_told("a", 2**62, now)
        search.on_told("b", version, now)
        asked = []
        while "b" not in asked:
            address, at = ask(search)
            asked.append(address)
            search.on_answer(address, version if address == "b" else version - 1, at)
            assert at <= now + 0.06
        now = at
    assert asked == ["b"]


def test_a_node_that_kept_its_word_is_believed_again() -> None:
    search = search_at(1)
    search.on_told("a", 9, START)
    _, at = ask(search)
    search.on_answer("a", 1, at)
    search.on_told("a", 9, at)
    _, at = ask(search)
    search.on_answer("a", 9, at)
    search.on_told("a", 10, at)
    assert search.at <= at + 0.05


def test_a_teller_that_does_not_answer_is_asked_again_later_and_another_one_meanwhile() -> None:
    search = search_at(1)
    search.on_told("a", 2, START)
    first, _ = ask(search)
    second, at = ask(search)
    assert (first, second != "a") == ("a", True)
    search.on_answer(second, 1, at)
    assert ask(search)[0] == "a"


def test_while_nobody_can_be_asked_the_search_waits_for_a_connection() -> None:
    search = TableSearch(random.Random(1), START)
    assert search.choose([], START) is None
    assert search.at > START
    search.on_ready(START + 0.1)
    assert search.at == START + 0.1
    assert search.choose(["a"], START + 0.1) == "a"
    at = search.at
    search.on_ready(START + 0.2)
    assert search.at == at


def test_a_question_that_was_not_sent_is_asked_again_soon() -> None:
    search = search_at(1)
    search.want(START)
    address, at = ask(search)
    search.on_blocked(address, at)
    assert at < search.at <= at + 0.05
    search.on_blocked("elsewhere", at)
    assert at < search.at <= at + 0.05


def test_a_question_whose_connection_is_gone_is_asked_of_another_node_soon() -> None:
    search = search_at(1)
    search.on_told("a", 2, START)
    address, at = ask(search)
    search.on_unready("b", at)
    assert search.at > at + 0.2, "the answer is on its way"
    search.on_unready(address, at)
    search.on_unready(address, at)
    other, asked_at = ask(search, ["b", "c"])
    assert other in ("b", "c")
    assert asked_at <= at + 0.05
    search.on_answer(other, 2, asked_at)
    assert search.at == float("inf")


def test_without_a_table_it_is_asked_for_until_there_is_one() -> None:
    search = TableSearch(random.Random(1), START)
    now = START
    for _ in range(50):
        address, now = ask(search)
        search.on_answer(address, 0, now)
    assert 10.0 < now - START < 25.0
    search.on_answer(ask(search)[0], 1, now)
    assert search.at == float("inf")


def test_an_answer_that_does_not_fit_is_asked_for_at_once_and_then_less_often() -> None:
    search = search_at(1)
    search.on_told("a", 2, START)
    times = []
    for _ in range(12):
        address, at = ask(search)
        search.on_misfit(address, at)
        times.append(at)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[0] == 0.0
    assert gaps[-1] > 10.0


def test_misfits_that_nobody_asked_for_lead_to_nothing() -> None:
    search = search_at(1)
    for _ in range(10):
        search.on_misfit("a", START)
    assert search.at == float("inf")


def test_nodes_that_have_left_are_forgotten() -> None:
    search = search_at(1)
    search.on_told("a", 2, START)
    search.keep_only(["b", "c"])
    assert search.at == float("inf")
