"""Writes first_records.bin with TensorBoard's own classes and reads our event files back with its EventAccumulator.

Made with Python 3.11.7, tensorboard 2.21.0, protobuf 7.36.2, numpy 2.4.6 (pip install tensorboard "setuptools<81").

  cargo test --no-default-features --features report events_for_the_check -- --ignored
  python tests/oracles/report/check_events.py target/events
"""

import math
import os
import sys

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

here = os.path.dirname(os.path.abspath(__file__))

# The version record and the events of steps 0 to 2, with the float32 values the test writes.
with open(os.path.join(here, "first_records.bin"), "wb") as f:
    out = RecordWriter(f)
    out.write(Event(wall_time=1_700_000_000.5, step=0, file_version="brain.Event:2").SerializeToString(deterministic=True))
    for step in range(3):
        values = [
            Summary.Value(tag="loss/train", simple_value=float(np.float32(1) / (np.float32(1) + np.float32(step)))),
            Summary.Value(tag="Größe", simple_value=float(step * step)),
        ]
        event = Event(wall_time=1_700_000_000.5 + step, step=step, summary=Summary(value=values))
        out.write(event.SerializeToString(deterministic=True))
    out.flush()

if len(sys.argv) > 1:
    acc = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
    acc.Reload()
    assert acc.file_version == 2.0, acc.file_version
    loss = acc.Scalars("loss/train")
    want = [(s, float(np.float32(1) / (np.float32(1) + np.float32(s)))) for s in range(30)]
    want += [(s, 100.0 + s) for s in range(30, 40)]
    assert [(e.step, e.value) for e in loss] == want, loss
    assert [e.wall_time for e in loss[:30]] == [1_700_000_000.5 + s for s in range(30)]
    other = acc.Scalars("Größe")
    assert [(e.step, e.value) for e in other] == [(s, float(s * s)) for s in range(30)]
    assert not any(math.isnan(e.value) for e in loss), "the point at step 2^40 is dropped by the restart"
    print(f"{len(loss)} + {len(other)} points read back, restart at 30 honoured")
