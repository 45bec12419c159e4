"""The flag --registry_help, which takes an optional name: --registry_help=NAME."""

from absl import flags

from t2t_vqem.registry_help import registry_help

_ALL = "true"  # absl's value for a flag without a value


class _OptionalNameParser(flags.ArgumentParser):
    syntactic_help = "nothing, or a name"

    def parse(self, argument: str) -> str:
        return argument


def define_registry_help(flag_values: flags.FlagValues) -> None:
    """Adds --registry_help to the flags of a command."""
    flag = flags.Flag(
        _OptionalNameParser(),
        flags.ArgumentSerializer(),
        "registry_help",
        None,
        "List everything that is registered; with =NAME, show one entry with all its settings.",
        boolean=True,
    )
    flags.DEFINE_flag(flag, flag_values)


def show_registry_help(flag_values: flags.FlagValues) -> bool:
    """Prints the output of --registry_help if the flag was given; returns whether it was."""
    name = flag_values["registry_help"].value
    if name in (None, "false"):
        return False
    print(registry_help(None if name == _ALL else name))
    return True
