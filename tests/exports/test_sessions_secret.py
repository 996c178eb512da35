"""The key that cursors are signed with is shown nowhere."""

from __future__ import annotations

from exporter.exports.sessions import Archive


def test_the_archive_does_not_show_the_secret_of_its_cursors() -> None:
    secret = bytes(range(32, 64))
    archive = Archive("an-id", secret, 7, "a-token")
    for shown in (repr(archive), str(archive), f"{archive}", f"{[archive]}"):
        assert "cursor_secret" not in shown
        assert secret.decode() not in shown
        assert repr(secret) not in shown
    assert archive.cursor_secret == secret
    assert "an-id" in repr(archive)
