"""SYNTHETIC subscription customers, from a seeded generator written for this project (no real person's data).

The process: skewed numbers, missing values some at random and some not (heavy users' usage is missing less),
interactions (tickets matter more on month-to-month terms), label noise. Same seed, same rows.
"""
import os
import sys

import numpy as np
import pandas as pd

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "build", "churn")
sys.path.insert(0, os.path.join(HERE, ".."))
from tabular import dump_lines  # noqa: E402

PLANS, REGIONS = ["basic", "plus", "pro", "enterprise"], ["north", "south", "east", "west", "overseas"]
CONTRACTS, PAYS, OSES = ["month-to-month", "one-year", "two-year"], ["card", "bank", "invoice", "wallet"], ["android", "ios", "web", "other"]


def generate(n, seed, shift=None):
    """shift: None, 'covariate', 'category', 'missing', 'concept', 'units'."""
    g = np.random.default_rng(seed)
    tenure = np.round(np.minimum(g.gamma(1.4 if shift != "covariate" else 0.8, 18 if shift != "covariate" else 9, n), 120), 1)
    age = np.clip(np.round(g.normal(44, 14, n)), 18, 95)
    plan = g.choice(4, n, p=[.42, .31, .2, .07] if shift != "covariate" else [.62, .24, .11, .03])
    contract = np.where(g.random(n) < 0.15 + 0.006 * np.minimum(tenure, 60), g.choice([1, 2], n, p=[.6, .4]), 0)
    pay = g.choice(4, n, p=[.5, .25, .1, .15])
    region = g.choice(5, n, p=[.3, .25, .2, .18, .07])
    os_ = g.choice(4, n, p=[.41, .33, .2, .06])
    monthly = np.round(np.array([12, 29, 59, 140])[plan] * g.lognormal(0, .18, n), 2)
    if shift == "covariate":
        monthly = np.round(monthly * 1.25, 2)
    usage = np.round(g.lognormal(1.6 + .5 * plan, 1.1, n), 3)
    tickets = g.poisson(np.exp(-.6 + .25 * plan - .006 * tenure))
    login = np.round(np.minimum(g.exponential(6 + 6 * (usage < 4), n), 180), 1)
    late = g.binomial(12, np.where(pay == 2, .12, .05), n)
    paperless = g.random(n) < .64
    autopay = g.random(n) < np.where((pay == 0) | (pay == 3), .7, .3)
    total = np.round(monthly * tenure * g.normal(1, .05, n).clip(.8, 1.2), 2)
    z = (-1.35 - .034 * tenure + .011 * monthly + .04 * login + .30 * tickets * (1 + .5 * (contract == 0))
         + .33 * late - .95 * (contract == 1) - 1.75 * (contract == 2) - .22 * np.log1p(usage)
         - .45 * autopay + .45 * (region == 4) + .25 * (os_ == 3) - .012 * (age - 44) * (plan < 2)
         + .7 * ((monthly > 55) & (usage < 8)) + .55 * ((tenure < 4) & (contract == 0)))
    if shift == "concept":
        z = z + .9 * (pay == 0) - .6 * tickets * .5 - .8 * (tenure < 6)
    y = g.random(n) < 1 / (1 + np.exp(-z))
    flip = g.random(n) < .02
    y = np.where(flip, ~y, y)
    miss = {"age": .08, "device_os": .05, "region": .02, "total_charges": .03, "payment_method": .015}
    if shift == "missing":
        miss.update({"age": .45, "region": .3, "total_charges": .35})
    d = pd.DataFrame({
        "tenure_months": tenure, "monthly_charges": monthly, "total_charges": total, "data_gb_30d": usage,
        "support_tickets_90d": tickets.astype(float), "days_since_last_login": login, "late_payments_12m": late.astype(float), "age": age,
        "plan": np.array(PLANS, object)[plan], "contract": np.array(CONTRACTS, object)[contract],
        "payment_method": np.array(PAYS, object)[pay], "region": np.array(REGIONS, object)[region],
        "device_os": np.array(OSES, object)[os_], "paperless": paperless, "autopay": autopay})
    d = d.astype({c: object for c in d.columns})
    for c, p in miss.items():
        d.loc[g.random(n) < p, c] = None
    d.loc[g.random(n) < np.where(usage < 5, .12, .03) * (4 if shift == "missing" else 1), "data_gb_30d"] = None
    d.loc[g.random(n) < .04, "days_since_last_login"] = None
    if shift == "category":
        d.loc[g.random(n) < .3, "payment_method"] = "crypto"
        d.loc[g.random(n) < .2, "device_os"] = "tv"
        d.loc[g.random(n) < .25, "plan"] = "family"
    if shift == "units":
        k = d["data_gb_30d"].notna()
        d.loc[k, "data_gb_30d"] = [round(v * 1024, 1) for v in d.loc[k, "data_gb_30d"]]
    d.insert(0, "id", [f"{shift or 'c'}-{seed}-{i:05d}" for i in range(n)])
    d["label"] = np.where(y, "churn", "stay")
    return d


def rows_of(d):
    """Rows as JSON-ready dicts, None for missing."""
    out = []
    for r in d.to_dict("records"):
        out.append({k: (None if v is None or (isinstance(v, float) and np.isnan(v)) else (v.item() if isinstance(v, np.generic) else v)) for k, v in r.items()})
    return out


def typed(d):
    """A copy with real column types, for Parquet."""
    d = d.copy()
    for c in d.columns:
        if c in ("paperless", "autopay"):
            d[c] = d[c].astype("boolean")
        elif c in ("tenure_months", "monthly_charges", "total_charges", "data_gb_30d", "support_tickets_90d", "days_since_last_login", "late_payments_12m", "age"):
            d[c] = d[c].astype("Float64")
        else:
            d[c] = d[c].astype("string")
    return d


if __name__ == "__main__":
    out = os.path.join(OUT, "data")
    os.makedirs(out, exist_ok=True)
    typed(generate(20000, 11)).to_parquet(os.path.join(out, "train.parquet"), index=False)
    ev = generate(6000, 12)
    typed(ev).to_parquet(os.path.join(out, "eval.parquet"), index=False)
    typed(ev).to_csv(os.path.join(out, "eval.csv"), index=False)
    dump_lines(os.path.join(out, "eval.jsonl"), rows_of(ev))
    for k, s in enumerate(["covariate", "category", "missing", "concept", "units"]):
        d = generate(3000, 20 + k, s)
        typed(d).to_parquet(os.path.join(out, f"drift_{s}.parquet"), index=False)
        dump_lines(os.path.join(out, f"drift_{s}.jsonl"), rows_of(d))
    typed(generate(3000, 30)).to_parquet(os.path.join(out, "nodrift.parquet"), index=False)
    dump_lines(os.path.join(out, "nodrift.jsonl"), rows_of(generate(3000, 30)))
