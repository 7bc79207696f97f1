"""The findings in evidence/, its README and the sentences of the chapters agree."""

import json

import pytest

from evidence import __main__ as command
from evidence import findings


def test_the_table_is_that_of_the_stored_results():
    text = findings.README.read_text(encoding="utf-8")
    table = text.split(findings.START)[1].split(findings.END)[0].strip()
    assert table == findings.table().strip(), "run: python3 run.py evidence --table"


def test_every_script_has_its_result():
    for name in command.scripts():
        result = json.loads((findings.HERE / f"{name}.json").read_text(encoding="utf-8"))
        assert result.get("findings") or "networks" in result, name


def test_the_chapters_say_what_was_measured():
    assert findings.missing_quotes() == []
    assert sum(len(row["quotes"]) for result in findings.results().values() for row in result["findings"]) > 1


def test_a_changed_number_is_noticed(monkeypatch):
    (name, result), *_ = findings.results().items()
    row = result["findings"][0] | {"quotes": ["13 of 12 photos"]}
    monkeypatch.setattr(findings, "results", lambda: {name: result | {"findings": [row]}})
    (fault,) = findings.missing_quotes()
    assert fault.startswith(row["where"]) and "13 of 12" in fault
    assert "13 of 12" not in findings.table(), "the table shows results, not quotes"


def test_a_finding_without_a_quote_is_refused():
    with pytest.raises(ValueError, match="needs a quote"):
        findings.finding("README.md", "The sky is blue.", "days", "7 of 7", [])


def test_an_unknown_script_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["nonsense"])
    assert "no script named nonsense" in capsys.readouterr().err


def test_a_script_stores_beside_itself_unless_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["sky.py"])
    assert findings.command(str(tmp_path / "sky.py"), "Is the sky blue?\n\nMore.") == tmp_path / "sky.json"
    monkeypatch.setattr("sys.argv", ["sky.py", "--out", "elsewhere.json"])
    assert findings.command(str(tmp_path / "sky.py"), "Is the sky blue?\n\nMore.").name == "elsewhere.json"
    monkeypatch.setattr("sys.argv", ["sky.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        findings.command(str(tmp_path / "sky.py"), "Is the sky blue?\n\nMore.")
    told = capsys.readouterr().out
    assert "Is the sky blue?" in told and "--out" in told and "More." not in told
