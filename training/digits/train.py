"""A small convolutional net on scikit-learn's bundled 8x8 digits: trained with jax, written out with onnx.helper. See README.md."""
import base64
import hashlib
import os
import struct
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import onnx
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # the library phones home unless told not to before it is loaded
import onnxruntime as ort  # noqa: E402
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "build", "digits")
sys.path.insert(0, os.path.join(HERE, ".."))
import tabular as tb  # noqa: E402


def init(g, chans):
    a, b = chans
    he = lambda s, fan: jnp.array(g.normal(0, np.sqrt(2 / fan), s), jnp.float32)  # noqa: E731
    return {"w1": he((a, 1, 3, 3), 9), "b1": jnp.zeros(a), "w2": he((b, a, 3, 3), 9 * a), "b2": jnp.zeros(b),
            "w3": he((b * 16, 64), b * 16), "b3": jnp.zeros(64), "w4": he((64, 10), 64), "b4": jnp.zeros(10)}


def conv(x, w, b):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")) + b[None, :, None, None]


def net(p, x):
    x = x / 16.0
    x = jax.nn.relu(conv(x, p["w1"], p["b1"]))
    x = jax.nn.relu(conv(x, p["w2"], p["b2"]))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    x = jax.nn.relu(x.reshape(x.shape[0], -1) @ p["w3"] + p["b3"])
    return x @ p["w4"] + p["b4"]


def loss(p, x, y):
    return -jnp.mean(jax.nn.log_softmax(net(p, x))[jnp.arange(y.shape[0]), y]) + 1e-4 * sum(jnp.sum(v * v) for v in p.values())


@jax.jit
def step(p, m, v, t, x, y):
    g = jax.grad(loss)(p, x, y)
    m = jax.tree.map(lambda a, b: .9 * a + .1 * b, m, g)
    v = jax.tree.map(lambda a, b: .999 * a + .001 * b * b, v, g)
    p = jax.tree.map(lambda a, b, c: a - 2e-3 * (b / (1 - .9 ** t)) / (jnp.sqrt(c / (1 - .999 ** t)) + 1e-8), p, m, v)
    return p, m, v


def to_onnx(p):
    i = {k: nh.from_array(np.asarray(v, np.float32), k) for k, v in p.items()}
    c = [nh.from_array(np.array(16, np.float32), "sixteen"), nh.from_array(np.array([0, -1], np.int64), "flat")]
    n = [h.make_node("Div", ["image", "sixteen"], ["x0"]),
         h.make_node("Conv", ["x0", "w1", "b1"], ["c1"], pads=[1] * 4), h.make_node("Relu", ["c1"], ["r1"]),
         h.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1] * 4), h.make_node("Relu", ["c2"], ["r2"]),
         h.make_node("MaxPool", ["r2"], ["q"], kernel_shape=[2, 2], strides=[2, 2]), h.make_node("Reshape", ["q", "flat"], ["f"]),
         h.make_node("Gemm", ["f", "w3", "b3"], ["g1"]), h.make_node("Relu", ["g1"], ["r3"]), h.make_node("Gemm", ["r3", "w4", "b4"], ["logits"]),
         h.make_node("Softmax", ["logits"], ["probabilities"], axis=1)]
    g = h.make_graph(n, "digits", [h.make_tensor_value_info("image", T.FLOAT, ["N", 1, 8, 8])],
                     [h.make_tensor_value_info("probabilities", T.FLOAT, ["N", 10]), h.make_tensor_value_info("logits", T.FLOAT, ["N", 10])], list(i.values()) + c)
    m = h.make_model(g, opset_imports=[h.make_opsetid("", 18)], ir_version=9, producer_name="models-src")
    onnx.checker.check_model(m)
    return m


def png(a):
    """An 8-bit grey PNG of a 2-d uint8 array."""
    raw = b"".join(b"\0" + r.tobytes() for r in a)
    ck = lambda k, d: struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))  # noqa: E731
    return b"\x89PNG\r\n\x1a\n" + ck(b"IHDR", struct.pack(">IIBBBBB", a.shape[1], a.shape[0], 8, 0, 0, 0, 0)) + ck(b"IDAT", zlib.compress(raw, 9)) + ck(b"IEND", b"")


def main():
    d = load_digits()
    x = d.images.astype(np.float32)[:, None]
    xt, xv, yt, yv = train_test_split(x, d.target, test_size=.3, random_state=9, stratify=d.target)
    data = os.path.join(OUT, "data")
    os.makedirs(data, exist_ok=True)
    np.savez_compressed(os.path.join(data, "eval.npz"), image=xv.astype(np.uint8), label=yv.astype(np.int64))
    for version, chans, epochs in (("1.0.0", (8, 16), 12), ("1.1.0", (16, 32), 30)):
        out = os.path.join(OUT, version)
        os.makedirs(out, exist_ok=True)
        g = np.random.default_rng(2)
        p = init(g, chans)
        m = jax.tree.map(jnp.zeros_like, p)
        v, t = m, 0
        for _ in range(epochs):
            o = g.permutation(len(xt))
            for k in range(0, len(o) - 63, 64):
                t += 1
                b = xt[o[k:k + 64]]
                if version == "1.1.0":     # shift by at most one pixel
                    b = np.roll(b, g.integers(-1, 2), axis=int(g.integers(2, 4)))
                p, m, v = step(p, m, v, t, b, yt[o[k:k + 64]])
        onx = to_onnx(p)
        onnx.save(onx, os.path.join(out, "model.onnx"))
        s = ort.InferenceSession(onx.SerializeToString(), providers=["CPUExecutionProvider"])
        pr, lg = s.run(None, {"image": xv})
        assert np.abs(lg - np.asarray(net(p, xv))).max() < 1e-3
        tb.dump(os.path.join(out, "metrics.json"), {"version": version, "data": "eval", "metrics": {"rows": len(yv), "accuracy": float((pr.argmax(1) == yv).mean()),
                "log_loss": float(-np.log(np.clip(pr[np.arange(len(yv)), yv], 1e-7, 1)).mean())}})
        tb.dump(os.path.join(out, "profile.json"), {"format": "reference-profile/1", "rows": len(xt), "features": {
            "mean_pixel": {"kind": "numeric", "missing": 0, **tb.numeric_profile(xt.mean((1, 2, 3)))}, "std_pixel": {"kind": "numeric", "missing": 0, **tb.numeric_profile(xt.std((1, 2, 3)))}},
            "predictions": {"label": {"kind": "categorical", "count": len(xt), "categories": {str(k): int(c) for k, c in enumerate(np.bincount(s.run(["probabilities"], {"image": xt})[0].argmax(1), minlength=10))}},
                            "top_probability": {"kind": "numeric", **tb.numeric_profile(s.run(["probabilities"], {"image": xt})[0].max(1))}}})
        lines = []
        for k in range(20):
            px = np.round(xv[k, 0] * 255 / 16).astype(np.uint8)
            fed = (px.astype(np.float32) / 255 * 16)[None, None]
            a, b = s.run(None, {"image": fed})
            lines.append({"name": f"g{k:02d}", "png_base64": base64.b64encode(png(px)).decode(), "pixels": xv[k, 0].astype(int).tolist(), "true_label": int(yv[k]),
                          "expected": {"label": int(a[0].argmax()), "probabilities": [float(q) for q in s.run(["probabilities"], {"image": xv[k:k + 1]})[0][0]]},
                          "expected_from_png": {"label": int(a[0].argmax()), "probabilities": [float(q) for q in a[0]]}, "tolerance": 1e-4})
        tb.dump_lines(os.path.join(out, "golden.jsonl"), lines)
        tb.dump(os.path.join(out, "sha256.json"), {f: hashlib.sha256(open(os.path.join(out, f), "rb").read()).hexdigest() for f in sorted(os.listdir(out)) if f != "sha256.json"})
        print(version, float((pr.argmax(1) == yv).mean()), os.path.getsize(os.path.join(out, "model.onnx")))


if __name__ == "__main__":
    main()
