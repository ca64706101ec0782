"""The README is what a newcomer believes: it may not name what is gone, nor keep quiet about what is there."""

import ast
import re
from pathlib import Path

from django.core.management import get_commands, load_command_class

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def settings_read() -> set[str]:
    """Every NAME of an `env.…("NAME", …)` or `secret("NAME", …)` in the modules that read the environment."""
    names = set()
    for module in ("config/settings.py", "config/env.py"):
        for node in ast.walk(ast.parse((ROOT / module).read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                function = ast.unparse(node.func)
                if function.startswith("env.") or function == "secret":
                    names.add(str(node.args[0].value))
    return names


def section(title: str) -> str:
    return re.split(r"^## ", README.split(f"\n## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def own_commands() -> set[str]:
    return {
        name for name, app in get_commands().items() if app in ("config", "billing_app", "files_app", "batches_app")
    }


def test_every_setting_is_in_the_table_and_the_table_has_no_other() -> None:
    assert len(settings_read()) > 10
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", section("Settings"), re.MULTILINE)) == settings_read()


def test_every_command_is_explained() -> None:
    # `make demo` and `make run` stand for these two.
    unnamed = {
        name for name in own_commands() - {"demo"} if f"`{name}" not in README and f"manage.py {name}" not in README
    }
    assert unnamed == set()


def test_every_command_and_option_that_it_names_exists() -> None:
    for name, rest in re.findall(r"^\| `([a-z_]+)([^|]*)` \|", section("Your models"), re.MULTILINE):
        assert name in own_commands()
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        options = parser.format_help()
        assert [option for option in re.findall(r"--[a-z-]+", rest) if option not in options] == []


def test_every_make_target_that_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)", "\n".join(re.findall(r"`[^`\n]+`|^    .*$", README, re.MULTILINE))))
    assert {"demo", "run", "test", "lint"} <= named
    assert named <= targets


def test_every_python_example_compiles() -> None:
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert examples
    for example in examples:
        compile(example, "README.md", "exec")
