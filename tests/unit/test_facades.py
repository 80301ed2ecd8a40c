"""The two clients are one: the same calls with the same parameters, one waiting and one awaited."""

import collections.abc
import inspect
from typing import Any, get_args, get_origin

import pytest

import gimmal
from gimmal.client.aio import AsyncClient
from gimmal.client.aio_queues import AsyncQueue
from gimmal.client.aio_workers import AsyncConsumer
from gimmal.client.queues import Queue
from gimmal.client.sync import Client
from gimmal.client.workers import Consumer

ONLY_SYNC = {"map"}
WITHOUT_TRIPS = {"queue"}
FACADES = (Client, AsyncClient)


def methods(facade: type) -> dict[str, Any]:
    return {name: member for name, member in vars(facade).items() if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[str, Any, Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default, one.annotation) for one in found]


def returned(function: Any) -> Any:
    """What a call gives, once it was awaited or iterated over."""
    annotation = inspect.signature(function).return_annotation
    if get_origin(annotation) in (collections.abc.AsyncIterator, collections.abc.Iterator):
        return ("iterator", *get_args(annotation))
    return annotation


def test_both_clients_have_the_same_methods() -> None:
    assert methods(Client).keys() - ONLY_SYNC == methods(AsyncClient).keys()
    assert methods(Client).keys() >= ONLY_SYNC
    assert {"set", "get", "get_many", "incr", "scan", "cluster", "close"} <= methods(AsyncClient).keys()


@pytest.mark.parametrize("name", sorted(methods(AsyncClient).keys() - WITHOUT_TRIPS))
def test_a_method_is_the_same_in_both_clients(name: str) -> None:
    waiting, awaited = methods(Client)[name], methods(AsyncClient)[name]
    assert parameters(waiting) == parameters(awaited)
    assert returned(waiting) == returned(awaited)
    assert inspect.getdoc(waiting)
    assert not inspect.iscoroutinefunction(waiting)
    assert inspect.iscoroutinefunction(awaited) or inspect.isasyncgenfunction(awaited)


@pytest.mark.parametrize("name", sorted(methods(AsyncClient).keys() - {"close"}))
def test_a_method_says_the_same_in_both_clients(name: str) -> None:
    assert inspect.getdoc(methods(Client)[name]) == inspect.getdoc(methods(AsyncClient)[name])


OPERATIONS = sorted(methods(AsyncClient).keys() - {"close", "counters"} - WITHOUT_TRIPS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_takes_a_timeout_by_name(name: str) -> None:
    parameter = inspect.signature(methods(Client)[name]).parameters["timeout"]
    assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    assert parameter.default is None


def test_both_ways_to_connect_are_the_same() -> None:
    ways = (gimmal.connect, gimmal.connect_async, Client, AsyncClient)
    first, *others = [parameters(way) for way in ways]
    assert others == [first] * 3
    assert [name for name, *_ in first] == ["seeds", "timeout", "network", "serializer"]
    assert inspect.signature(gimmal.connect).return_annotation is Client
    assert inspect.signature(gimmal.connect_async).return_annotation is AsyncClient


def test_everything_public_is_documented() -> None:
    for thing in (gimmal.connect, gimmal.connect_async, *FACADES):
        assert inspect.getdoc(thing)
    for facade in FACADES:
        for name, method in methods(facade).items():
            assert inspect.getdoc(method), f"{facade.__name__}.{name}"


def test_the_public_names_are_loaded_when_they_are_used() -> None:
    assert gimmal.Client is Client
    assert gimmal.AsyncClient is AsyncClient
    assert gimmal.errors.NoRoute is not None
    with pytest.raises(AttributeError, match="'nonsense'"):
        gimmal.nonsense  # noqa: B018 - reading it is the test


# -- queues


CONSUMES = {"consume", "consume_many"}  # their `timeout` is how long they wait


def test_both_clients_make_their_queues_in_the_same_way() -> None:
    waiting, awaited = Client.queue, AsyncClient.queue
    assert parameters(waiting) == parameters(awaited)
    assert inspect.getdoc(waiting) == inspect.getdoc(awaited)
    assert {name: default for name, _, default, _ in parameters(waiting)[2:]} == dict.fromkeys(
        ("max_retries", "lease", "backoff", "backoff_max", "shards", "max_length")
    )


def test_both_queues_have_the_same_methods() -> None:
    assert methods(Queue).keys() == methods(AsyncQueue).keys()
    assert methods(Consumer).keys() == methods(AsyncConsumer).keys()


@pytest.mark.parametrize("name", sorted(methods(AsyncQueue).keys() - {"name"}))
def test_a_method_is_the_same_in_both_queues(name: str) -> None:
    waiting, awaited = methods(Queue)[name], methods(AsyncQueue)[name]
    assert parameters(waiting) == parameters(awaited)
    assert inspect.getdoc(waiting) == inspect.getdoc(awaited)
    if name == "start_consumer":
        assert (returned(waiting), returned(awaited)) == (Consumer, AsyncConsumer)
    else:
        assert returned(waiting) == returned(awaited)
    assert not inspect.iscoroutinefunction(waiting)
    assert inspect.iscoroutinefunction(awaited)
    timeout = inspect.signature(waiting).parameters["timeout"]
    if name in CONSUMES:
        assert timeout.default == 5.0
    else:
        assert (timeout.kind, timeout.default) == (inspect.Parameter.KEYWORD_ONLY, None)


@pytest.mark.parametrize("name", sorted(methods(AsyncConsumer).keys() - {"start"}))
def test_a_method_is_the_same_in_both_consumers(name: str) -> None:
    waiting, awaited = methods(Consumer)[name], methods(AsyncConsumer)[name]
    assert parameters(waiting) == parameters(awaited)
    assert returned(waiting) == returned(awaited)
    assert inspect.getdoc(waiting) == inspect.getdoc(awaited)
    assert inspect.iscoroutinefunction(awaited)


def test_everything_of_queues_is_there_under_its_public_name() -> None:
    names = {"AsyncConsumer", "AsyncQueue", "Consumer", "DeadLetter", "Message", "MessageStatus", "Queue"}
    assert names <= set(gimmal.__all__)
    for name in names:
        assert inspect.getdoc(getattr(gimmal, name))
