"""The command's entry: Ctrl-C says nothing, at whatever moment it comes."""

from __future__ import annotations

import pytest

from llmlog_consumer import __main__ as entry


def test_ctrl_c_while_libraries_load_ends_without_a_traceback(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_run", interrupted)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""
