"""Optional dependencies."""

import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.extras import MissingExtraError, import_extra


def test_an_installed_module_is_returned():
    assert import_extra("json.decoder", "demo").JSONDecoder


def test_the_error_for_a_missing_module_says_what_to_install():
    with pytest.raises(MissingExtraError, match=r"pip install 't2t-vqem\[demo\]'") as caught:
        import_extra("there_is_no_such_module", "demo")
    assert "There_is_no_such_module".lower() in str(caught.value)
    assert isinstance(caught.value, UsageError)  # the commands show it without a traceback
    assert isinstance(caught.value, ImportError)
