#!/usr/bin/env python3
"""Flower's own gRPC server with dummy clients, as bench/swarm/measure has them: every answer comes at once.

    PYTHON bench/swarm/flower.py [--clients 1000] [--cohort 100] [--rounds 10] [--threads 1000]

PYTHON has flwr, as in bench/peers. The server is start_server with FedAvg in a process of its own, where each
connected client holds a thread of gRPC's; Flower starts 1,000 of them, --threads asks for more. Clients are
bare gRPC streams in an event loop, so that they cost little. The model has 7,850 numbers.
"""
from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import pathlib
import sys
import time

import numpy as np

ELEMENTS, MESSAGE = 7850, 1 << 29


def serve(args: argparse.Namespace, port: int, pipe) -> None:
    import flwr.compat.server.app as legacy
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerConfig, start_server
    from flwr.server.strategy import FedAvg

    start = legacy.start_grpc_server
    legacy.start_grpc_server = lambda **options: start(max_concurrent_workers=args.threads, **options)
    ends: list[float] = []

    class Timed(FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            if not ends:
                while not client_manager.wait_for(args.clients, 1):
                    pipe.send(("connected", client_manager.num_available()))
                pipe.send(("connected", args.clients))
                pipe.send(("joined", memory(os.getpid())))
                ends.append(time.monotonic())
            return super().configure_fit(server_round, parameters, client_manager)

        def aggregate_fit(self, server_round, results, failures):
            merged = super().aggregate_fit(server_round, results, failures)
            ends.append(time.monotonic())
            pipe.send((server_round, len(results), len(failures), ends[-1] - ends[-2]))
            return merged

    strategy = Timed(fraction_fit=args.cohort / args.clients, fraction_evaluate=0, min_fit_clients=args.cohort,
                     min_available_clients=args.clients,
                     initial_parameters=ndarrays_to_parameters([np.zeros(ELEMENTS, np.float32)]))
    pipe.send(("empty", memory(os.getpid())))
    start_server(server_address=f"127.0.0.1:{port}", config=ServerConfig(num_rounds=args.rounds), strategy=strategy)
    pipe.send(("done", memory(os.getpid())))


def memory(pid: int) -> int:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def swarm(port: int, count: int) -> None:
    import grpc
    from flwr.common import FitRes, ndarrays_to_parameters
    from flwr.common.serde import fit_res_to_proto
    from flwr.common.typing import Code, Status
    from flwr.proto.transport_pb2 import ClientMessage
    from flwr.proto.transport_pb2_grpc import FlowerServiceStub

    update = ndarrays_to_parameters([np.full(ELEMENTS, 1e-4, np.float32)])
    answer = ClientMessage(fit_res=fit_res_to_proto(FitRes(Status(Code.OK, ""), update, 100, {})))
    goodbye = ClientMessage(disconnect_res=ClientMessage.DisconnectRes())

    async def one(number: int) -> None:
        options = [("grpc.max_receive_message_length", MESSAGE), ("swarm.client", number),
                   ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            await asyncio.wait_for(channel.channel_ready(), 300)
            call = FlowerServiceStub(channel).Join()
            while (message := await call.read()) is not grpc.aio.EOF:
                if message.WhichOneof("msg") == "reconnect_ins":
                    await call.write(goodbye)
                    break
                await call.write(answer)

    async def everyone() -> None:
        done = await asyncio.gather(*(one(i) for i in range(count)), return_exceptions=True)
        failed = [error for error in done if isinstance(error, Exception)]
        if failed:
            print(f"{len(failed)} clients failed: {failed[0]!r}"[:300], file=sys.stderr)

    asyncio.run(everyone())


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--clients", type=int, default=1000)
    parse.add_argument("--cohort", type=int, default=100)
    parse.add_argument("--rounds", type=int, default=10)
    parse.add_argument("--threads", type=int, default=1000)
    parse.add_argument("--processes", type=int, default=4)
    parse.add_argument("--limit", type=float, default=300, help="seconds; 300")
    args = parse.parse_args()
    port, begin = 20000 + os.getpid() % 6000 * 2, time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe(duplex=False)
    server = spawn.Process(target=serve, args=(args, port, theirs), daemon=True)
    server.start()
    told: dict[str, int] = {}
    rounds: list[tuple] = []
    clients: list = []
    while time.monotonic() - begin < args.limit and "done" not in told:
        if not mine.poll(1):
            if not server.is_alive():
                break
            continue
        what, *rest = mine.recv()
        if isinstance(what, int):
            rounds.append((what, *rest))
            continue
        told[what] = rest[0]
        if what == "empty":
            time.sleep(2)  # it listens by now
            for i in range(args.processes):
                count = args.clients * (i + 1) // args.processes - args.clients * i // args.processes
                clients.append(spawn.Process(target=swarm, args=(port, count), daemon=True))
                clients[-1].start()
    later = rounds[1:]
    updates, seconds = sum(r[1] for r in later), sum(r[3] for r in later)
    print(json.dumps({"clients": args.clients, "cohort": args.cohort, "threads": args.threads,
                      "seconds": round(time.monotonic() - begin, 1), "finished": "done" in told,
                      "connected": told.get("connected", 0), "rounds": len(rounds),
                      "failures": sum(r[2] for r in rounds),
                      "updates_per_second": round(updates / seconds, 1) if seconds else None,
                      "round_seconds": round(seconds / len(later), 3) if later else None,
                      "memory_bytes_per_client": round((told["joined"] - told["empty"]) / args.clients)
                      if "joined" in told else None}, indent=2))
    for process in [*clients, server]:
        process.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
