"""The circle task's seed program, and other bodies for its functions: what the offline proposer builds with.

The seed program is a plain one: points in rows, and the largest equal discs around them. The alternatives are layouts
and ways to size circles from textbooks, good and bad ones, unmarked; none of them holds a known packing's coordinates.
"""

from __future__ import annotations

SEED = """\
import math

def centres(n):
    side = math.ceil(math.sqrt(n))
    points = []
    for index in range(n):
        row, column = divmod(index, side)
        points.append(((column + 0.5) / side, (row + 0.5) / side))
    return points

def radii(points):
    found = []
    for i, (x, y) in enumerate(points):
        room = min(x, y, 1.0 - x, 1.0 - y)
        for j, (u, v) in enumerate(points):
            if i != j:
                room = min(room, math.hypot(x - u, y - v) / 2.0)
        found.append(room)
    return found

def pack(n):
    points = centres(n)
    return [[x, y, max(0.0, radius - 1e-12)] for (x, y), radius in zip(points, radii(points))]
"""

ALTERNATIVES: dict[str, tuple[str, ...]] = {
    "centres": (
        # rows that are shifted by half a step in turn
        """\
def centres(n):
    rows = math.ceil(math.sqrt(n * 1.1))
    points = []
    for row in range(rows):
        count = n // rows + (1 if row < n % rows else 0)
        shift = 0.25 if row % 2 else 0.0
        for column in range(count):
            x = (column + 0.5 + shift) / (count + 0.25)
            points.append((min(x, 1.0), (row + 0.5) / rows))
    return points
""",
        # a square grid that is too small, and what is left over in the gaps between its points
        """\
def centres(n):
    side = math.floor(math.sqrt(n))
    points = [((i % side + 0.5) / side, (i // side + 0.5) / side) for i in range(side * side)]
    gaps = [((i % (side - 1) + 1.0) / side, (i // (side - 1) + 1.0) / side) for i in range((side - 1) ** 2)]
    return (points + gaps)[:n]
""",
        # rings around the middle
        """\
def centres(n):
    points = [(0.5, 0.5)]
    ring = 1
    while len(points) < n:
        count = min(6 * ring, n - len(points))
        reach = min(0.5, 0.16 * ring)
        for k in range(count):
            angle = 2.0 * math.pi * k / count
            points.append((0.5 + reach * math.cos(angle), 0.5 + reach * math.sin(angle)))
        ring += 1
    return points[:n]
""",
        # a sunflower's seeds
        """\
def centres(n):
    golden = math.pi * (3.0 - math.sqrt(5.0))
    points = []
    for k in range(n):
        reach = 0.47 * math.sqrt((k + 0.5) / n)
        points.append((0.5 + reach * math.cos(k * golden), 0.5 + reach * math.sin(k * golden)))
    return points
""",
        # points that push each other away
        """\
def centres(n):
    points = [((k * 0.618034 + 0.5) % 1.0, (k + 0.5) / n) for k in range(n)]
    for step in range(60):
        moved = []
        for i, (x, y) in enumerate(points):
            push = [0.0, 0.0]
            for j, (u, v) in enumerate(points):
                if i != j:
                    square = (x - u) ** 2 + (y - v) ** 2 + 1e-06
                    push[0] += (x - u) / square ** 2
                    push[1] += (y - v) / square ** 2
            size = math.hypot(push[0], push[1]) + 1e-09
            pace = 0.05 / (1.0 + step * 0.2)
            x, y = x + push[0] / size * pace, y + push[1] / size * pace
            moved.append((min(max(x, 0.08), 0.92), min(max(y, 0.08), 0.92)))
        points = moved
    return points
""",
    ),
    "radii": (
        # one after another, each as large as those before it leave
        """\
def radii(points):
    found = []
    for i, (x, y) in enumerate(points):
        room = min(x, y, 1.0 - x, 1.0 - y)
        for j, (u, v) in enumerate(points):
            distance = math.hypot(x - u, y - v)
            if j < i:
                room = min(room, distance - found[j])
            elif j > i:
                room = min(room, distance / 2.0)
        found.append(max(0.0, room))
    return found
""",
        # the first as large as they can be, the later ones what is left to them
        """\
def radii(points):
    found = []
    for i, (x, y) in enumerate(points):
        room = min(x, y, 1.0 - x, 1.0 - y)
        for j, (u, v) in enumerate(points):
            if i != j:
                room = min(room, math.hypot(x - u, y - v) - (found[j] if j < i else 0.0))
        found.append(max(0.0, room))
    return found
""",
        # all at once and equal
        """\
def radii(points):
    room = min(min(x, y, 1.0 - x, 1.0 - y) for x, y in points)
    for i, (x, y) in enumerate(points):
        for u, v in points[:i]:
            room = min(room, math.hypot(x - u, y - v) / 2.0)
    return [max(0.0, room) for point in points]
""",
        # by turns a little larger, until nothing fits any more
        """\
def radii(points):
    found = [0.0 for point in points]
    for step in range(40):
        for i, (x, y) in enumerate(points):
            room = min(x, y, 1.0 - x, 1.0 - y, found[i] + 0.005)
            for j, (u, v) in enumerate(points):
                if i != j:
                    room = min(room, math.hypot(x - u, y - v) - found[j])
            found[i] = max(found[i], room)
    return found
""",
    ),
    "pack": (
        # points that are moved at random, and stay where the sum grew
        """\
def pack(n):
    import random
    dice = random.Random(1)
    points = centres(n)
    best = sum(radii(points))
    for step in range(100):
        reach = 0.05 * (1.0 - step / 100.0)
        i = dice.randrange(n)
        x, y = points[i]
        trial = points[:i] + [(x + dice.gauss(0.0, reach), y + dice.gauss(0.0, reach))] + points[i + 1:]
        sizes = radii(trial)
        if min(sizes) >= 0.0 and sum(sizes) > best:
            points, best = trial, sum(sizes)
    return [[x, y, max(0.0, radius - 1e-12)] for (x, y), radius in zip(points, radii(points))]
""",
    ),
}
"""Name of a function of the seed program -> other bodies."""
