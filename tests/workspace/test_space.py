"""A disk that is nearly full is told before it is full."""

from epsilon_lab.workspace.space import Space


def test_it_is_told_below_the_reserve_and_until_there_is_twice_as_much(tmp_path, monkeypatch):
    space = Space(tmp_path, 64 * 2**20)
    told = []
    for free in (100, 63, 65, 127, 128, 65, 0):
        monkeypatch.setattr(space, "free_bytes", lambda free=free: free * 2**20)
        told.append(space.shortage())
    assert [bool(text) for text in told] == [False, True, True, True, False, False, True]
    assert "nearly full (63 MB left)" in told[1]
    assert "Free 128 MB" in told[1]


def test_where_nobody_can_tell_there_is_room(tmp_path):
    assert Space(tmp_path / "none", 1).shortage() == ""
    assert Space(tmp_path, 1).free_bytes() > 0
