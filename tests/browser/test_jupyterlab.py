"""The harness itself: a page with a live widget, a busy kernel, a restart; the other tests here rest on all of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from epsilon_lab.testing.jupyterlab import NotebookPage

pytestmark = [pytest.mark.browser, pytest.mark.long]


def test_a_widget_lives_in_the_page(open_notebook: Callable[..., NotebookPage]) -> None:
    notebook = open_notebook(
        "import ipywidgets, threading\nlabel = ipywidgets.Label('first'); label.add_class('our-label'); label",
        "go = threading.Event()\nprint('blocked', flush=True)\ngo.wait(0.5)\nlabel.value = 'second'",
    )
    notebook.run_all()
    notebook.page.locator(".our-label", has_text="second").wait_for()
    notebook.begin(1)
    notebook.page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status == 'busy'"
    )
    notebook.save()
    notebook.restart_kernel()
    assert not notebook.is_busy()
    notebook.reload()
