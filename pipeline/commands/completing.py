"""What a shell shows when Tab is pressed. It is waited for: nothing heavy is imported, and nothing is ever printed.

Files are the shell's own business, which knows quotes, links and `~`: it is only told that YAML files are wanted.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

PROGRAM, VARIABLE = "memsync", "_MEMSYNC_COMPLETE"
YAML_FILES = "yaml"  # to the scripts below: YAML files, and folders on the way to them
YAML_SUFFIXES = (".yaml", ".yml")
LINES_MAX = 1_000  # of a file of dead letters: more than anybody chooses from

# ----------------------------------------------------------------------------------------- what is completed


def yaml_files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type=YAML_FILES)]


def source_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the sources in the files that were typed before, or else in those of this folder."""
    return _items((name for name, _ in _sources()), incomplete)


def source_types(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from connectors import connector_types

    return _items(connector_types(), incomplete)


def dead_documents(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ids of documents that are dead letters: what one wants to look at."""
    return _items((document for name, file in _sources() for document in _documents(name, file)), incomplete)


def _items(values: Iterable[str], incomplete: str) -> list[CompletionItem]:
    found = sorted({value for value in values if value.startswith(incomplete) and value.isprintable()})
    return [CompletionItem(value) for value in found]


def _sources() -> Iterator[tuple[str, Path]]:
    """The name and the file of each source that the line names so far, or else of each in this folder.

    Of files that cannot be read, none.
    """
    for file in _files():
        values = _values(file)
        if values is not None:
            yield str(values.get("name", file.stem)), file


def _files() -> Iterator[Path]:
    # Not what click has understood: it gives up on a line that ends with `--source`.
    words = [Path(word).expanduser() for word in split_arg_string(os.environ["COMP_WORDS"])[2:]]
    for path in [word for word in words if word.suffix in YAML_SUFFIXES or word.is_dir()] or [Path()]:
        if path.is_dir():
            yield from sorted(each for each in path.iterdir() if each.suffix in YAML_SUFFIXES)
        else:
            yield path


def _values(file: Path) -> dict[str, Any] | None:
    from pipeline.configuration.yaml_source import read_yaml
    from pipeline.errors import ConfigurationError

    try:
        return read_yaml(file).values
    except (ConfigurationError, ValueError):
        return None


def _documents(name: str, file: Path) -> Iterator[str]:
    """The documents in the source's file of dead letters, where it is by default or the file says."""
    values = _values(file) or {}
    state, letters = (values.get(section) for section in ("state", "dead_letters"))
    folder = file.parent / (_path_in(state) or ".memsync") / name
    path = file.parent / (_path_in(letters) or folder / "dead-letters.jsonl")
    with path.open(encoding="utf-8") as lines:
        for _, line in zip(range(LINES_MAX), lines, strict=False):
            yield str(json.loads(line)["document_id"])


def _path_in(section: Any) -> str | None:
    path = section.get("path") if isinstance(section, dict) else None
    return os.path.expanduser(path) if isinstance(path, str) else None  # noqa: PTH111 - joined by who asks


def quietly(
    completer: Callable[[click.Context, click.Parameter, str], list[CompletionItem]],
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """`completer`, which offers nothing where it would fail: a line that is being typed must not be written over."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            return completer(context, parameter, incomplete)
        except Exception:  # whatever it is: there is nobody to tell, and nothing was to be done
            return []

    return complete


# ---------------------------------------------------------------------------------------------- the shells

# Click's own scripts do not quote what they insert, go wrong at colons in Bash, and know no kind of file.
_BASH = """\
# Completes %(prog_name)s in Bash 4.4 or later.
%(complete_func)s() {
    local IFS=$'\\n' type value
    # Bash breaks words at `:` and `=`, memsync does not: what stands before in the same word is there already.
    local word=${COMP_WORDS[COMP_CWORD]} line=${COMP_LINE:0:COMP_POINT}
    [[ $word == = || $word == : ]] && word=
    local before=${line##*[[:space:]]}
    before=${before%%"$word"}
    [[ $before == -*= ]] && before=
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            yaml)
                compopt -o filenames
                COMPREPLY+=($(compgen -f -X '!*.yaml' -- "$word") $(compgen -f -X '!*.yml' -- "$word"))
                COMPREPLY+=($(compgen -d -- "$word"))
                ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            plain) COMPREPLY+=("$(printf '%%q' "${value#"$before"}")") ;;
        esac
    done < <(env COMP_WORDS="$line" COMP_CWORD=0 %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -F %(complete_func)s %(prog_name)s
"""
_ZSH = """\
#compdef %(prog_name)s
# Completes %(prog_name)s in zsh.
%(complete_func)s() {
    local type value description
    local -a values described
    while IFS= read -r type && IFS= read -r value && IFS= read -r description; do
        case $type in
            yaml) _files -g '*.(yaml|yml)' ;;
            file) _files ;;
            dir) _files -/ ;;
            plain) [[ $description == _ ]] && values+=("$value") || described+=("$value:$description") ;;
        esac
    done < <(
        env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete "$words[1]" 2>/dev/null
    )
    (( $#described )) && _describe -V 'command' described
    (( $#values )) && compadd -V values -a values
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""
_FISH = """\
# Completes %(prog_name)s in fish.
function %(complete_func)s
    set -lx COMP_WORDS (commandline -cp)
    set -lx COMP_CWORD (commandline -ct)
    set -lx %(complete_var)s fish_complete
    for line in (%(prog_name)s 2>/dev/null)
        set -l parts (string split -m 1 , -- $line)
        switch $parts[1]
            case yaml
                set -l start (string unescape -- $COMP_CWORD)
                for path in $start*.yaml $start*.yml $start*/
                    printf '%%s\\n' $path
                end
            case file
                __fish_complete_path $COMP_CWORD
            case dir
                __fish_complete_directories $COMP_CWORD
            case plain
                printf '%%s\\n' $parts[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments '(%(complete_func)s)'
"""


class _Bash(BashComplete):
    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words of the line up to the cursor; the last is incomplete, and empty behind a space."""
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        return words[1:], incomplete

    def source(self) -> str:
        """Without a look at the Bash of this machine: the script may be for another one."""
        return self.source_template % self.source_vars()


class _Zsh(ZshComplete):
    source_template = _ZSH


class _Fish(FishComplete):
    source_template = _FISH


CLASSES: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def register() -> None:
    """Have click answer the scripts by what belongs to them."""
    for found in CLASSES.values():
        add_completion_class(found)


def script(shell: str, command: click.Command) -> str:
    """The script for `shell` that completes `command`."""
    completing = CLASSES[shell](command, {}, PROGRAM, VARIABLE)
    return completing.source()
