"""A minimum-cost flow, small enough to read: the tool with which loads are balanced.

An arc carries a whole number within bounds and has a cost per unit. The caller puts down a flow that
respects the bounds and, as a rule, not the balance: some vertices then receive more than they send on
(their excess is positive), others less. `settle` moves the excess to where it is missing at the least total
cost.

The point of this shape is that the flow put down is what a cluster has now. If costs are such that no
rerouting of it could pay by itself (no arc with room to spare has a negative cost, in either direction),
the settled flow is the cheapest of all balanced flows, so "cost" can mean "data moved", and work is in
proportion to what is out of balance.

Method: shortest augmenting paths in rounds. Each vertex has a price that keeps all reduced costs >= 0; a
round extends the prices by a Dijkstra search from all excess at once, up to the nearest lack, then pushes
along every arc whose reduced cost is zero. Order of arcs is order of addition, hence results are
deterministic.

What it does not do: find a first flow, accept negative cycles, or use floats.

Source: Edmonds and Karp (1972); Ahuja, Magnanti and Orlin, "Network Flows", chapter 9 (primal-dual).
"""

from heapq import heappop, heappush


class Network:
    """Vertices 0 to n - 1, the arcs between them, and the flow they carry."""

    __slots__ = ("_arcs", "_cost", "_head", "_price", "_room", "excess")

    def __init__(self, vertices: int) -> None:
        self.excess = [0] * vertices
        """What a vertex has in surplus (positive) or lacks (negative); sums to zero when all is put down."""
        self._price = [0] * vertices
        self._arcs: list[list[int]] = [[] for _ in range(vertices)]
        # Arc 2k and its reverse 2k + 1: the room of the reverse is what may be taken back.
        self._head: list[int] = []
        self._room: list[int] = []
        self._cost: list[int] = []

    def add(self, tail: int, head: int, bounds: tuple[int, int], wanted: int, cost: int) -> int:
        """Add an arc that carries now what is wanted, as far as its bounds allow; return its number."""
        least, most = bounds
        flow = min(max(wanted, least), most)
        assert cost >= 0 or flow == most
        assert cost <= 0 or flow == least
        arc = len(self._head)
        self._head += (head, tail)
        self._room += (most - flow, flow - least)
        self._cost += (cost, -cost)
        self._arcs[tail].append(arc)
        self._arcs[head].append(arc + 1)
        self.excess[tail] -= flow
        self.excess[head] += flow
        return arc

    def carried(self, arc: int) -> int:
        """Return what an arc carries above its least."""
        return self._room[arc + 1]

    def settle(self) -> None:
        """Move all excess to where it is missing, at the least cost; there must be room for it on the way."""
        assert sum(self.excess) == 0
        while any(self.excess):
            self._extend_prices()
            self._push()

    def _extend_prices(self) -> None:
        """Make the cheapest way from excess to lack free of reduced cost."""
        head, room, cost, price, excess = self._head, self._room, self._cost, self._price, self.excess
        distance = {vertex: 0 for vertex, surplus in enumerate(excess) if surplus > 0}
        heap = [(0, vertex) for vertex in distance]
        settled: list[tuple[int, int]] = []
        while heap:
            here, vertex = heappop(heap)
            if here > distance[vertex]:
                continue
            if excess[vertex] < 0:
                # Prices may all rise together without effect: whoever is farther keeps its own.
                for near, closer in settled:
                    price[closer] += near - here
                return
            settled.append((here, vertex))
            base = here + price[vertex]
            for arc in self._arcs[vertex]:
                if room[arc]:
                    other = head[arc]
                    there = base + cost[arc] - price[other]
                    known = distance.get(other)
                    if known is None or there < known:
                        distance[other] = there
                        heappush(heap, (there, other))
        raise AssertionError("there is no room to move the excess to where it is missing")

    def _push(self) -> None:
        cursor = [0] * len(self.excess)
        closed = bytearray(len(self.excess))
        for source, surplus in enumerate(self.excess):
            if surplus > 0 and not closed[source]:
                while self.excess[source] > 0 and self._push_from(source, cursor, closed):
                    pass

    def _push_from(self, source: int, cursor: list[int], closed: bytearray) -> bool:
        """Push along one path of zero reduced cost; False, with all dead ends closed, if there is none."""
        head, room, cost, price, excess = self._head, self._room, self._cost, self._price, self.excess
        path: list[int] = []
        vertex = source
        closed[source] = 1
        while excess[vertex] >= 0:
            arcs = self._arcs[vertex]
            for index in range(cursor[vertex], len(arcs)):
                arc = arcs[index]
                other = head[arc]
                if room[arc] and not closed[other] and price[vertex] + cost[arc] == price[other]:
                    cursor[vertex] = index
                    path.append(arc)
                    closed[other] = 1
                    vertex = other
                    break
            else:
                cursor[vertex] = len(arcs)
                if not path:
                    return False
                vertex = head[path.pop() ^ 1]
        amount = min(excess[source], -excess[vertex], *(room[arc] for arc in path))
        excess[source] -= amount
        excess[vertex] += amount
        closed[source] = 0
        for arc in path:
            room[arc] -= amount
            room[arc ^ 1] += amount
            closed[head[arc]] = 0
        return True
