"""A proxy's configuration is read with the files that it includes."""

import pytest

from llmlog_producer.litellm_config import ConfigError, callback_lists, read_config

HANDLER = "llmlog_producer.callback.handler"
NAMED = f'litellm_settings:\n  callbacks: ["{HANDLER}"]\n'


def write(folder, files):
    """Write files; return the path of the first one."""
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder / "config.yaml"


@pytest.mark.parametrize(
    ("files", "names_it"),
    [
        ({"config.yaml": "include: [a.yaml]", "a.yaml": NAMED}, True),
        ({"config.yaml": "include: [d/a.yaml]", "d/a.yaml": "include: [b.yaml]",
          "d/b.yaml": NAMED}, True),
        ({"config.yaml": "include: [d/a.yaml]", "d/a.yaml": "include: [b.yaml]",
          "b.yaml": NAMED}, True),
        ({"config.yaml": "include: [a.yaml, a.yaml]", "a.yaml": NAMED + "include: [config.yaml]"},
         True),
        # A section replaces the section of the same name: LiteLLM loads no callback here.
        ({"config.yaml": NAMED + "include: [a.yaml]", "a.yaml": "litellm_settings: {drop: 1}"},
         False),
        ({"config.yaml": NAMED + "include: [a.yaml]", "a.yaml": "model_list: []"}, True),
        ({"config.yaml": NAMED + "include: []"}, True),
        ({"config.yaml": f"litellm_settings: {{callbacks: {HANDLER}}}"}, True),
        ({"config.yaml": "litellm_settings: 1"}, False),
    ],
)  # fmt: skip
def test_included_files_are_merged_as_litellm_does(tmp_path, files, names_it):
    lists = callback_lists(read_config(write(tmp_path, files)))
    assert (HANDLER in lists.get("callbacks", ())) is names_it


def test_lists_are_joined_in_order(tmp_path):
    files = {"config.yaml": "include: [a.yaml]\nmodel_list: [1]", "a.yaml": "model_list: [2]"}
    assert read_config(write(tmp_path, files)) == {"model_list": [1, 2]}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config.yaml": "include: [a.yaml]"}, "there is no file .*/a.yaml"),
        ({"config.yaml": "include: a.yaml", "a.yaml": "{}"}, "has to be a list"),
        ({"config.yaml": "include: [a.yaml]", "a.yaml": "[]"}, "a.yaml: it is no YAML mapping"),
        ({"config.yaml": "include: [a.yaml]", "a.yaml": "{"}, "cannot read .*/a.yaml"),
        ({"config.yaml": ""}, "config.yaml: it is no YAML mapping"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, files, said):
    with pytest.raises(ConfigError, match=said):
        read_config(write(tmp_path, files))
