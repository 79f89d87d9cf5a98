"""An OpenAI-compatible server for tests, which misbehaves as a test wishes."""

import contextlib
import http.server
import json
import threading

NOT_FOUND = (404, "404 page not found", {})


class Server:
    """Lists one model, "m", at /v1/models. The test gives `answer(n, question)` -> (status, body, headers);
    None hangs up. It may replace `list(path)`, which answers every GET request.

    requests: (body, Authorization header) of each question so far. url: the base URL.
    """

    def __init__(self, port=0):
        self.requests = []
        self.list = lambda path: (200, {"data": [{"id": "m"}]}, {}) if path == "/v1/models" else NOT_FOUND
        self.answer = lambda n, question: reply_with("I don't know.")
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self._send(*outer.list(self.path))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append((body, self.headers.get("Authorization")))
                answer = outer.answer(len(outer.requests), body["messages"][-1]["content"])
                if answer is None:  # hang up
                    self.connection.close()
                else:
                    self._send(*answer)

            def _send(self, status, body, headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                text = body if isinstance(body, str) else json.dumps(body)
                with contextlib.suppress(ConnectionError):  # who asked was killed, or waits no longer
                    self.end_headers()
                    self.wfile.write(text.encode())

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


def reply_with(text, model="m", **choice):
    return (
        200,
        {"model": model, "choices": [{"message": {"content": text}, "finish_reason": "stop"} | choice]},
        {},
    )


@contextlib.contextmanager
def running():
    """A Server that runs until the end of the block."""
    server = Server()
    try:
        yield server
    finally:
        server.http.shutdown()
