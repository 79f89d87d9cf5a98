"""What a training run does between its steps: draw the bar and the curves, and save before it stops.

Made by functions, since their base class comes with transformers.
"""

import signal

from deepred_common import cli, curves


def make_bar():
    """A trainer callback: one bar on stderr with loss and learning rate, and one line for each validation."""
    from transformers import ProgressCallback

    class Bar(ProgressCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if self.training_bar is None or not logs:
                return
            if "loss" in logs:
                self.training_bar.set_postfix_str(f"loss {logs['loss']:.3f}, learning rate {logs['learning_rate']:.1e}")
            for name, value in logs.items():
                if name.startswith("eval_") and name.endswith("_loss"):
                    side = name.removeprefix("eval_").removesuffix("_loss")
                    self.training_bar.clear()
                    cli.progress(f"step {state.global_step}: {side} validation loss {value:.3f}")

    return Bar()


def make_artist(path, title):
    """A trainer callback: the curves in the PNG file `path`, drawn anew after each validation and at the end."""
    from transformers import TrainerCallback

    class Artist(TrainerCallback):
        def on_evaluate(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                curves.draw(state.log_history, path, title)

        on_train_end = on_evaluate

    return Artist()


def make_stopper():
    """A trainer callback: the first Ctrl-C or SIGTERM saves a checkpoint at the end of the step and stops.

    Its `asked` tells whether that happened. A second Ctrl-C stops at once.
    """
    from transformers import TrainerCallback

    class StopAndSave(TrainerCallback):
        asked = False
        before = None

        def on_train_begin(self, args, state, control, **kwargs):
            def ask(signum, frame):
                if self.asked:
                    raise KeyboardInterrupt
                self.asked = True
                cli.progress("\nstopping: this step is finished and a checkpoint saved (once more to stop at once) …")

            self.before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}

        def on_train_end(self, args, state, control, **kwargs):
            for number, handler in self.before.items():
                signal.signal(number, handler)

        def on_step_end(self, args, state, control, **kwargs):
            if self.asked:
                control.should_save = control.should_training_stop = True

    return StopAndSave()
