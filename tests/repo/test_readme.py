import re

from config.env import BASE_DIR

README = (BASE_DIR / "README.md").read_text()


def test_every_setting_of_the_environment_is_in_the_readmes_table() -> None:
    """And nothing else is."""
    source = (BASE_DIR / "config" / "settings.py").read_text()
    read = set(re.findall(r'(?:env\.\w+|secret)\(\s*"([A-Z_]+)"', source))
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert documented == read


def test_every_command_is_in_the_readme() -> None:
    for path in BASE_DIR.glob("*/management/commands/[a-z]*.py"):
        if path.stem != "demo":
            assert path.stem in README, path.stem
