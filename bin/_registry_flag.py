"""The flag --registry_help, with or without a name: --registry_help, --registry_help=NAME."""

from absl import flags

from t2t_vqem.registry_help import registry_help

_ALL = "true"  # what absl makes of a flag without a value


class _OptionalNameParser(flags.ArgumentParser):
    syntactic_help = "nothing, or a name"

    def parse(self, argument: str) -> str:
        return argument


def define_registry_help(flag_values: flags.FlagValues) -> None:
    """Defines --registry_help among a command's flags."""
    flag = flags.Flag(
        _OptionalNameParser(),
        flags.ArgumentSerializer(),
        "registry_help",
        None,
        "List all that is registered; with =NAME, show one thing and all its settings.",
        boolean=True,
    )
    flags.DEFINE_flag(flag, flag_values)


def show_registry_help(flag_values: flags.FlagValues) -> bool:
    """Prints what --registry_help asks for; returns whether it was given."""
    name = flag_values["registry_help"].value
    if name in (None, "false"):
        return False
    print(registry_help(None if name == _ALL else name))
    return True
