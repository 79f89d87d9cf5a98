"""Getting replies: a local Hugging Face model or an OpenAI-compatible server, asked greedily, one user turn each."""

import concurrent.futures
import time

from deepred_common import chat
from deepred_common.cli import UserError, warn

_TIMEOUT = (10, 600)  # seconds to connect, and to wait for a reply (a big model on a CPU takes its time)
_RETRIES = 3


class LocalModel:
    """A transformers model, adapter or not, asked in batches with left padding."""

    def __init__(self, model, tokenizer, max_tokens, batch_size=8):
        from transformers import GenerationConfig

        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        chat.ensure_template(tokenizer)
        self._stops = chat.stop_ids(tokenizer, model.generation_config)
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self._stops[0]
        # A configuration of its own: the model's may hold sampling settings, and the verdicts are about greedy replies.
        self._config = GenerationConfig(
            max_new_tokens=max_tokens, do_sample=False, eos_token_id=self._stops, pad_token_id=self._pad
        )

    def ask(self, instructions):
        """Yield (index, reply text) for each instruction, longest prompts first, so that batches pad little."""
        prompts = [chat.prompt_ids(self.tokenizer, instruction) for instruction in instructions]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
        for start in range(0, len(order), self.batch_size):
            batch = order[start:start + self.batch_size]
            yield from zip(batch, self._generate([prompts[i] for i in batch]), strict=True)

    def _generate(self, prompts):
        import torch

        width = max(map(len, prompts))
        ids = torch.tensor([[self._pad] * (width - len(p)) + p for p in prompts], device=self.model.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self.model.device)
        with torch.inference_mode():
            out = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=self._config)
        return [self.tokenizer.decode(row, skip_special_tokens=True).strip() for row in out[:, width:]]


class ApiModel:
    """A model behind an OpenAI-compatible server (LM Studio, llama.cpp): `<url>/models`, `<url>/chat/completions`.

    model: the identifier to ask for; None takes the only one that the server lists.
    in_flight: requests at a time; a server with one slot simply queues them.
    """

    def __init__(self, url, model, max_tokens, in_flight=2):
        import requests

        self.url = url.rstrip("/")
        self.max_tokens = max_tokens
        self.in_flight = in_flight
        self._session = requests.Session()
        self._warned = False
        self.model = self._choose(model)

    def _choose(self, wanted):
        listed = self._request("GET", "/models")
        try:
            names = [entry["id"] for entry in listed["data"]]
        except (TypeError, KeyError):
            raise UserError(f"the server at {self.url} answers, but not as an OpenAI-compatible API: {str(listed)[:120]}") from None
        if wanted in names or (wanted is None and len(names) == 1):
            return wanted or names[0]
        what = "--lmstudio_model is needed" if wanted is None else f"the server has no model {wanted!r}"
        raise UserError(f"{what}; it lists: {', '.join(names) or 'none (load one first: lms load …)'}")

    def _request(self, method, path, body=None):
        """The JSON that the server answers. Retries dropped connections, 429 and 5xx; UserError when it stays so."""
        import requests

        for attempt in range(_RETRIES):
            last = attempt == _RETRIES - 1
            try:
                response = self._session.request(method, self.url + path, json=body, timeout=_TIMEOUT)
            except requests.exceptions.InvalidURL:
                raise UserError(f"{self.url} is not a URL.") from None
            except requests.exceptions.RequestException as error:
                # Nobody listening at all does not get better by waiting; a dropped connection may.
                refused = "refused" in str(error) or "resolve" in str(error) or isinstance(error, requests.exceptions.MissingSchema)
                if last or refused:
                    raise UserError(f"no server answers at {self.url}. Start LM Studio's server (lms server start), or set "
                                    f"LMSTUDIO_HOST and LMSTUDIO_PORT or --lmstudio_url.\n({type(error).__name__})") from None
            else:
                if response.ok:
                    try:
                        return response.json()
                    except ValueError:
                        raise UserError(f"the server at {self.url} answers, but not with JSON: {response.text[:80]!r}\n"
                                        "Is the URL right? It usually ends in /v1.") from None
                if last or (response.status_code != 429 and response.status_code < 500):
                    raise UserError(f"the server at {self.url} refused {path} with status {response.status_code}: {response.text[:200]}")
            time.sleep(2 ** attempt)
        raise AssertionError("the last attempt always returns or raises")

    def _reply(self, instruction):
        body = {"model": self.model, "messages": chat.messages(instruction), "max_tokens": self.max_tokens, "temperature": 0}
        answer = self._request("POST", "/chat/completions", body)
        try:
            text = answer["choices"][0]["message"]["content"]
        except (TypeError, KeyError, IndexError):
            raise UserError(f"the server at {self.url} sent no reply in its answer: {str(answer)[:200]}") from None
        answered_by = answer.get("model")
        if answered_by and answered_by != self.model and not self._warned:
            self._warned = True
            warn(f"{self.model} was asked for, but the server says that {answered_by} replied.")
        return (text or "").strip()

    def ask(self, instructions):
        """Yield (index, reply text) for each instruction, as the replies come in."""
        with concurrent.futures.ThreadPoolExecutor(self.in_flight) as pool:
            waiting = {pool.submit(self._reply, instruction): i for i, instruction in enumerate(instructions)}
            try:
                for done in concurrent.futures.as_completed(waiting):
                    yield waiting[done], done.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
