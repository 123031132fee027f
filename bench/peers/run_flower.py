#!/usr/bin/env python3
"""Flower with its Ray simulation: as many workers at once as --processes, FedAvg on the server.

Which node serves a client does not matter to the result, so each message names the visit (a client in
a round) that its node trains.
"""
from __future__ import annotations

import os
import pathlib
import time

from common import Meter, Work, age, arguments

ARGS = arguments(__doc__).parse_args()
HERE = str(pathlib.Path(__file__).resolve().parent)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (HERE, os.environ.get("PYTHONPATH"))))
os.environ |= {"PEER_THREADS": str(ARGS.threads), "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0",
               "OMP_NUM_THREADS": str(ARGS.threads)}

import flwr  # noqa: E402
import torch  # noqa: E402
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict  # noqa: E402
from flwr.serverapp import Grid, ServerApp  # noqa: E402
from flwr.serverapp.strategy import FedAvg  # noqa: E402
from flwr.simulation import run_simulation  # noqa: E402

from flower_client import app as client_app  # noqa: E402
from models_torch import Data, build, count, test_sums  # noqa: E402

IMPORTED = age()


class PlannedFedAvg(FedAvg):
    """FedAvg on the clients of the plan; reports each round."""

    def __init__(self, work: Work, meter: Meter):
        super().__init__(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1,
                         weighted_by_key="weight")
        self.work, self.meter = work, meter

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord,
                        grid: Grid) -> list[Message]:
        while not (nodes := list(grid.get_node_ids())):  # they register while the server is already up
            time.sleep(0.01)
        return [Message(RecordDict({"arrays": arrays, "config": ConfigRecord(
                    {"visit": visit.number, "folder": str(self.work.folder), "device": ARGS.device})}),
                        dst_node_id=nodes[i % len(nodes)], message_type=MessageType.TRAIN)
                for i, visit in enumerate(self.work.visits(server_round))]

    def aggregate_train(self, server_round: int,
                        replies: list[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        failed = [r for r in replies if r.has_error()]
        if failed:
            raise RuntimeError(f"{len(failed)} clients failed: {failed[0].error.reason}")
        metrics = [r.content["metrics"] for r in replies]
        merged = super().aggregate_train(server_round, replies)
        self.meter.round(*(sum(m[key] for m in metrics) for key in ("loss", "hits", "examples")))
        return merged


def main() -> None:
    torch.set_num_threads(ARGS.processes * ARGS.threads)
    work = Work(ARGS.folder, ARGS.rounds)
    meter = Meter(work, "flower", flwr.__version__, "rows", processes=ARGS.processes, threads=ARGS.threads)
    meter.imported(IMPORTED)
    net, data = build(work, ARGS.device), Data(work, ARGS.device)
    server_app = ServerApp()

    def evaluate(round_: int, arrays: ArrayRecord) -> MetricRecord | None:
        if round_ > 0 and work.evaluates(round_):
            net.load_state_dict(arrays.to_torch_state_dict())
            loss, hits = test_sums(net, data.x_test, data.y_test).tolist()
            meter.tested(loss / work.answers(), hits / work.answers())
        return None

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        meter.ready()
        PlannedFedAvg(work, meter).start(grid, ArrayRecord(net.state_dict()), num_rounds=work.rounds,
                                         evaluate_fn=evaluate)

    gpus = 1 / ARGS.processes if ARGS.device != "cpu" else 0
    resources = {"num_cpus": ARGS.threads, "num_gpus": gpus}
    run_simulation(server_app, client_app, num_supernodes=work.population, backend_config={
        "client_resources": resources, "init_args": {"num_cpus": ARGS.processes * ARGS.threads}})
    meter.finish(count(net))


if __name__ == "__main__":
    main()
