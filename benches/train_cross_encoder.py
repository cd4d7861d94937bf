"""Trains a small cross-encoder on the even half of the judged queries: python train_cross_encoder.py prep | distill | tune (in this order).

CE_DATA: the folder of the tasks; CE_DIR: where base/ lies (config.json, model.safetensors, tokenizer.json of all-MiniLM-L6-v2) and work/ is made.
Needs torch, transformers, safetensors, numpy, scipy and PyStemmer.
"""
import json, math, os, pickle, random, re, sys, time
from collections import Counter, defaultdict
import numpy as np

ROOT = os.environ.get("CE_DIR", os.path.dirname(os.path.abspath(__file__)))
DATA = os.environ.get("CE_DATA", "dev")
BASE, WORK = f"{ROOT}/base", f"{ROOT}/work"
TASKS = ["beir_scifact", "esco_altlabel2occ", "esco_ictskills2occ", "melo_deu_q_de_c_en", "melo_usa_q_en_c_en",
         "onet_alttitle2occ", "onet_task2occ", "onet_techskills2occ", "people_task2member", "people_title2member",
         "skillextract_house", "skillextract_tech", "skillextract_techwolf", "talentclef25_taskA_val_de",
         "talentclef25_taskA_val_en", "talentclef25_taskA_val_es", "talentclef25_taskA_val_zh",
         "usajobs_series2posting", "usajobs_title2body", "usajobs_title_city_templ"]
FOREIGN = {"melo_deu_q_de_c_en", "talentclef25_taskA_val_de", "talentclef25_taskA_val_es", "talentclef25_taskA_val_zh"}
M64 = (1 << 64) - 1


def mix_bits(place):
    z = (place + 0x9E3779B97F4A7C15) & M64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def is_even(qid):
    h = 0
    for b in qid.encode("utf-8"):
        h = mix_bits(h ^ b)
    return h % 2 == 0


def norm(text):
    """A query's bare words, so that the same query under another id or template is recognised."""
    t = text.lower().strip()
    t = re.sub(r"^someone who (can|is|has) ", "", t)
    t = re.sub(r" (jobs? )?(in|near) [^,]+(, [a-z]{2})?$", "", t)
    return " ".join(re.findall(r"\w+", t))


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(x) for x in f if x.strip()]


def load_task(name):
    d = f"{DATA}/{name}"
    docs, qs = lines(f"{d}/corpus.jsonl"), lines(f"{d}/queries.jsonl")
    place = {x["_id"]: i for i, x in enumerate(docs)}
    rel = defaultdict(dict)
    for row in open(f"{d}/qrels.tsv", encoding="utf-8"):
        p = row.split()
        if len(p) == 4 and p[2] in place and float(p[3]) > 0:
            rel[p[0]][place[p[2]]] = float(p[3])
    texts = [(x.get("title", "") + "\n" + x["text"]).strip() for x in docs]
    return texts, [(x["_id"], x["text"]) for x in qs if x["_id"] in rel], rel


class Bm25:
    def __init__(self, texts, k1=1.2, b=0.75):
        import Stemmer
        from scipy import sparse
        self.stem, self.cache, self.vocab = Stemmer.Stemmer("english"), {}, {}
        r, c, v, n = [], [], [], []
        for i, t in enumerate(texts):
            cnt = Counter(self.words(t))
            n.append(sum(cnt.values()))
            for w, k in cnt.items():
                r.append(i); c.append(self.vocab.setdefault(w, len(self.vocab))); v.append(k)
        r, c, v, n = np.array(r), np.array(c), np.array(v, float), np.array(n, float)
        df = np.bincount(c, minlength=len(self.vocab))
        idf = np.log(1 + (len(texts) - df + .5) / (df + .5))
        w = idf[c] * v * (k1 + 1) / (v + k1 * (1 - b + b * n[r] / n.mean()))
        self.m = sparse.csc_matrix((w.astype(np.float32), (r, c)), shape=(len(texts), len(self.vocab)))

    def words(self, t):
        out = []
        for w in re.findall(r"\w+", t.lower()):
            if w not in self.cache:
                self.cache[w] = self.stem.stemWord(w)
            out.append(self.cache[w])
        return out

    def scores(self, q):
        cols = [self.vocab[w] for w in self.words(q) if w in self.vocab]
        if not cols:
            return np.zeros(self.m.shape[0], np.float32)
        return np.asarray(self.m[:, cols].sum(axis=1)).ravel().astype(np.float32)


def embed_all(texts, max_len=128, tokens=6144):
    import torch
    from transformers import AutoModel
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(f"{BASE}/tokenizer.json"); tok.enable_truncation(max_len); tok.no_padding()
    model = AutoModel.from_pretrained(BASE, attn_implementation="eager").eval()
    ids = [e.ids for e in tok.encode_batch([t[:4000] for t in texts])]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    out = np.zeros((len(ids), 384), np.float32)
    t0, at = time.time(), 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        while at < len(order):
            n = max(1, min(256, tokens // len(ids[order[min(at + 255, len(order) - 1)]])))
            part = order[at:at + n]; at += len(part)
            if at // 5000 > (at - len(part)) // 5000:
                print(at, "of", len(order), round(time.time() - t0), "s", flush=True)
            L = max(len(ids[i]) for i in part)
            x = torch.zeros(len(part), L, dtype=torch.long); m = torch.zeros(len(part), L, dtype=torch.long)
            for r, i in enumerate(part):
                x[r, :len(ids[i])] = torch.tensor(ids[i]); m[r, :len(ids[i])] = 1
            h = model(input_ids=x, attention_mask=m).last_hidden_state.float()
            h = (h * m[..., None]).sum(1) / m.sum(1, keepdim=True)
            out[part] = torch.nn.functional.normalize(h, dim=1).numpy()
    print("embedded", len(ids), "texts", sum(map(len, ids)), "tokens", round(time.time() - t0), "s", flush=True)
    return out


def first_sentences(text, lo=30, hi=160):
    return [s.strip() for s in re.split(r"(?<=[.;])\s+|\n", text) if lo <= len(s.strip()) <= hi]


def prep():
    """Candidates and teacher scores of every judged query, and of synthetic ones."""
    rng = random.Random(1)
    os.makedirs(WORK, exist_ok=True)
    tasks = {t: load_task(t) for t in TASKS}
    odd = {norm(q) for _, qs, _ in tasks.values() for i, q in qs if not is_even(i)}
    jobs, members = lines(f"{DATA}/jobs.jsonl"), lines(f"{DATA}/members.jsonl")
    fresh = lambda xs, n: (lambda p: rng.sample(p, min(n, len(p))))(sorted({x for x in xs if norm(x) and norm(x) not in odd}))
    titles = fresh([j["title"] for j in jobs] + [j["title"].lower() for j in jobs], 6000)
    heads = fresh([m["headline"] for m in members], 3000)
    esco = fresh([t.split("\n")[0] for t in tasks["esco_altlabel2occ"][0]], 3000)
    occ_s = fresh([s for t in tasks["esco_altlabel2occ"][0] + tasks["onet_task2occ"][0] for s in first_sentences(t)[:6]], 4000)
    job_s = fresh([s for j in rng.sample(jobs, 4000) for s in first_sentences(j["description"])[:8]], 6000)
    sci_s = fresh([s for t in tasks["beir_scifact"][0] for s in first_sentences(t, 50, 200)[1:5]], 3000)
    skills = fresh(tasks["skillextract_tech"][0], 3000)
    lists = fresh([", ".join(m["skills"][:rng.randint(1, 6)]) for m in members if m["skills"]], 2000)
    pools = {"beir_scifact": [(sci_s, 1200)], "esco_altlabel2occ": [(titles, 400), (heads, 600), (esco, 300), (occ_s, 500), (skills, 300)],
             "melo_usa_q_en_c_en": [(titles, 300), (heads, 300), (esco, 500)], "talentclef25_taskA_val_en": [(titles, 200), (heads, 300), (esco, 400)],
             "onet_alttitle2occ": [(titles, 300), (heads, 500), (esco, 500), (lists, 500), (occ_s, 400)],
             "people_title2member": [(titles, 200), (heads, 500), (esco, 300), (occ_s, 400), (lists, 300)],
             "skillextract_tech": [(job_s, 1200), (occ_s, 500), (skills, 700)],
             "usajobs_series2posting": [(titles, 300), (heads, 200), (esco, 200)], "usajobs_title2body": [(titles, 500), (job_s, 200)],
             "usajobs_title_city_templ": [(titles, 150)]}
    own = {m["headline"]: m["occupation"] for m in members}
    queries = {}
    for t in TASKS:
        qs = [(i, q, "even" if is_even(i) else "odd") for i, q in tasks[t][1]]
        for k, (pool, n) in enumerate(pools.get(t, [])):
            qs += [(f"syn{k}-{j}", q, "syn") for j, q in enumerate(rng.sample(pool, min(n, len(pool))))]
        queries[t] = qs
    every = sorted({x for t in TASKS for x in tasks[t][0]} | {q for t in TASKS for _, q, _ in queries[t]})
    at = {x: i for i, x in enumerate(every)}
    emb = embed_all(every)
    np.save(f"{WORK}/emb.npy", emb)
    out, corpus_of = {}, {}
    for t in TASKS:
        texts, _, rel = tasks[t]
        key = hash(tuple(texts))
        if key not in corpus_of:
            corpus_of[key] = (Bm25(texts), emb[[at[x] for x in texts]])
        bm, de = corpus_of[key]
        rows = []
        nr = np.random.default_rng(3)
        for i, q, kind in queries[t]:
            c, b = de @ emb[at[q]], bm.scores(q)
            ct, bt = np.argsort(-c, kind="stable")[:100], np.argsort(-b, kind="stable")[:100]
            bt = bt[b[bt] > 0]
            rrf = defaultdict(float)
            for lst in (ct, bt):
                for r, d in enumerate(lst):
                    rrf[int(d)] += 1 / (60 + r + 1)
            hyb = [d for d, _ in sorted(rrf.items(), key=lambda x: (-x[1], x[0]))][:50]
            keep = list(dict.fromkeys(hyb + [int(d) for d in ct[:50]] + [int(d) for d in bt[:50]] + (list(rel[i]) if kind == "even" else [])
                                      + [int(d) for d in nr.integers(0, len(texts), 10)]))
            rows.append(dict(id=i, q=q, kind=kind, hyb=np.array(hyb), bi=ct[:10], bm=bt[:10], docs=np.array(keep),
                             cos=c[keep], bm25=b[keep], bmax=max(float(b.max()), 1e-6), hybcos=c[hyb], rel=rel.get(i, {}),
                             leak=kind == "even" and norm(q) in odd))
        out[t] = dict(texts=[x[:1500] for x in texts], rows=rows)
        print(t, Counter(r["kind"] for r in rows), "even left out", sum(r["leak"] for r in rows), flush=True)
    pickle.dump(out, open(f"{WORK}/prep.pkl", "wb"))


def load_prep():
    """The prepared tasks; synthetic job titles and member headlines get the labels their records carry."""
    data = pickle.load(open(f"{WORK}/prep.pkl", "rb"))
    odd = {norm(r["q"]) for t in data.values() for r in t["rows"] if r["kind"] == "odd"}
    title_of = {j["id"]: norm(j["title"]) for j in lines(f"{DATA}/jobs.jsonl")}
    members = {m["id"]: m for m in lines(f"{DATA}/members.jsonl")}
    for name, label in (("usajobs_title2body", lambda i: {title_of.get(i)}),
                        ("people_title2member", lambda i: {members[i]["occupation"]})):
        ids = [x["_id"] for x in lines(f"{DATA}/{name}/corpus.jsonl")]
        by = defaultdict(list)
        for k, i in enumerate(ids):
            for x in label(i):
                by[x].append(k)
        heads = defaultdict(set)
        for m in members.values():
            heads[norm(m["headline"])].add(m["occupation"])
        for r in data[name]["rows"]:
            if r["kind"] == "syn" and norm(r["q"]) not in odd:
                keys = [norm(r["q"])] if name == "usajobs_title2body" else heads.get(norm(r["q"]), [])
                r["rel"] = {d: 1.0 for x in keys for d in by.get(x, [])}
    return data


class Pairs:
    """Token ids of queries and documents, each text tokenised once."""
    def __init__(self, data):
        from tokenizers import Tokenizer
        self.tok = Tokenizer.from_file(f"{BASE}/tokenizer.json"); self.tok.no_padding(); self.tok.no_truncation()
        self.data, self.docs, self.qs = data, {}, {}

    def ids(self, text, cache, cap):
        if text not in cache:
            cache[text] = self.tok.encode(text, add_special_tokens=False).ids[:cap]
        return cache[text]

    def pair(self, q, d, max_len):
        a, b = self.ids(q, self.qs, 64)[:max(8, max_len // 2)], self.ids(d, self.docs, 256)
        b = b[:max_len - 3 - len(a)]
        return [101] + a + [102] + b + [102], len(a) + 2

    def batch(self, pairs):
        import torch
        L = max(len(p[0]) for p in pairs)
        x = np.zeros((len(pairs), L), np.int64); m = np.zeros_like(x); s = np.zeros_like(x)
        for r, (ids, n) in enumerate(pairs):
            x[r, :len(ids)] = ids; m[r, :len(ids)] = 1; s[r, n:len(ids)] = 1
        return dict(input_ids=torch.from_numpy(x), attention_mask=torch.from_numpy(m), token_type_ids=torch.from_numpy(s))


def forward(model, batch):
    import torch
    with torch.autocast("cpu", torch.bfloat16):
        return model(**batch).logits[:, 0].float()


def predict(model, pairs, tokens=6144):
    """Logits of token-id pairs, in batches of about equal length."""
    import torch
    out, order, at = np.zeros(len(pairs), np.float32), sorted(range(len(pairs)), key=lambda i: len(pairs[i][0])), 0
    model.eval()
    while at < len(order):
        n = 1
        while at + n < len(order) and (n + 1) * len(pairs[order[at + n]][0]) <= tokens:
            n += 1
        part = order[at:at + n]; at += n
        with torch.inference_mode():
            out[part] = forward(model, P.batch([pairs[i] for i in part])).numpy()
    return out


def teacher(r, w):
    return 6.0 * (r["cos"] - 0.35) + 6.0 * w * (r["bm25"] / r["bmax"] - 0.3)


def new_model(path):
    from transformers import AutoModelForSequenceClassification
    m = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, attn_implementation="eager", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    m.bert.embeddings.word_embeddings.weight.requires_grad = False
    return m


def save(model, path):
    """Writes the model as save_pretrained does, with the tokenizer beside it."""
    from transformers import AutoTokenizer
    model.save_pretrained(path)
    tok = AutoTokenizer.from_pretrained(BASE, model_max_length=256); tok.model_max_length = 256
    tok.save_pretrained(path)
    for name, change in (("tokenizer.json", dict(truncation=None, padding=None)), ("tokenizer_config.json", dict(max_length=256))):
        whole = json.load(open(f"{path}/{name}", encoding="utf-8"))  # the base cuts and pads at 128, unasked
        json.dump(whole | change, open(f"{path}/{name}", "w", encoding="utf-8"), ensure_ascii=False, indent=1)


def optimizer(model, lr):
    import torch
    low = [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith(("classifier", "bert.pooler"))]
    top = [p for n, p in model.named_parameters() if p.requires_grad and n.startswith(("classifier", "bert.pooler"))]
    return torch.optim.AdamW([dict(params=low, lr=lr), dict(params=top, lr=lr)], weight_decay=0.01, betas=(0.9, 0.98))


def schedule(opt, lr, part, warm, wall=0.0):
    f = min(1.0, part / warm) * max(0.02, min(1 - max(0.0, part - warm) / (1 - warm), 5 * (1 - wall)))
    for g in opt.param_groups:
        g["lr"] = lr * f


def threads():
    """Two threads where a core is free, one where others are at work (threads that wait for each other lose most of their time)."""
    import torch
    busy = int(open("/proc/loadavg").read().split()[3].split("/")[0])
    torch.set_num_threads(2 if busy <= 2 else 1)


def spread(t, r, k, w):
    """k candidates of a query with their teacher scores: half from its top, the others from anywhere."""
    T = teacher(r, w)
    o = np.argsort(-T)
    pick = list(NR.choice(o[:20], min(k // 2, len(o)), replace=False)) + list(NR.choice(len(o), min(k, len(o)), replace=False))
    return [(r["q"], P.data[t]["texts"][r["docs"][j]], float(T[j])) for j in list(dict.fromkeys(pick))[:k]]


def distill(seconds, lr, w, max_len):
    import torch
    rng = random.Random(5)
    rows = {t: [r for r in d["rows"] if r["kind"] == "syn" or (r["kind"] == "even" and not r["leak"])] for t, d in P.data.items()}
    held = []
    for t in rows:
        rng.shuffle(rows[t]); k = max(1, min(12, len(rows[t]) // 20))
        held += [(t, r) for r in rows[t][:k]]; rows[t] = rows[t][k:]
    names = list(rows)
    size = {t: np.mean([min(len(x), 400) for x in P.data[t]["texts"][::20]]) for t in names}
    wt = [math.sqrt(len(rows[t])) * (0.3 if t in FOREIGN else 1.0) * (size[t] / 100) ** -0.3 for t in names]

    hold = [spread(t, r, 10, w) for t, r in held]
    hp = [P.pair(q, d, max_len) for g in hold for q, d, _ in g]; ht = np.array([x for g in hold for _, _, x in g])
    hn = [len(g) for g in hold]
    model = new_model(BASE)
    opt, t0, step, pairs, run, said = optimizer(model, lr), time.time(), 0, 0, [], time.time()
    print("distill: rows", sum(map(len, rows.values())), "held-out pairs", len(hp), flush=True)
    while time.time() - t0 < seconds:
        threads()
        t = rng.choices(names, wt)[0]
        gs = [spread(t, rng.choice(rows[t]), 8, w) for _ in range(8)]
        y = torch.tensor([x for g in gs for _, _, x in g])
        seg = torch.tensor([i for i, g in enumerate(gs) for _ in g])
        model.train()
        cut = rng.choice([max_len // 2, 3 * max_len // 4, max_len])  # short texts are cheap, and the model learns to do with less
        p = forward(model, P.batch([P.pair(q, d, cut) for g in gs for q, d, _ in g]))
        e = p - y
        mean = torch.zeros(len(gs)).index_add(0, seg, e) / torch.bincount(seg, minlength=len(gs))
        loss = 0.3 * e.pow(2).mean() + (e - mean[seg]).pow(2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([q for q in model.parameters() if q.requires_grad], 1.0)
        schedule(opt, lr, (time.time() - t0) / seconds, 0.06)
        opt.step(); opt.zero_grad(set_to_none=True)
        step += 1; pairs += len(y); run.append(loss.item())
        if step % 50 == 0:
            print(f"step {step} pairs {pairs} {time.time() - t0:.0f} s loss {np.mean(run[-50:]):.3f}", flush=True)
        if time.time() - said > 180:
            check(model, hp, ht, hn); save(model, f"{WORK}/distilled"); said = time.time()
    check(model, hp, ht, hn); save(model, f"{WORK}/distilled")
    json.dump(dict(pairs=pairs, steps=step, seconds=time.time() - t0, lr=lr, loss=float(np.mean(run[-100:]))), open(f"{WORK}/distill.json", "w"))


def check(model, hp, ht, hn):
    y, at, inner = predict(model, hp), 0, []
    for n in hn:
        a, b = y[at:at + n], ht[at:at + n]; at += n
        if n > 3 and a.std() > 0 and b.std() > 0:
            inner.append(np.corrcoef(a, b)[0, 1])
    print(f"  held-out: correlation {np.corrcoef(y, ht)[0, 1]:.4f}, within queries {np.mean(inner):.4f}", flush=True)


def ndcg(order, rel, k=10):
    ideal = sum(g / math.log2(i + 2) for i, g in enumerate(sorted(rel.values(), reverse=True)[:k]))
    return sum(rel.get(int(d), 0.0) / math.log2(i + 2) for i, d in enumerate(order[:k])) / ideal


def tune(seconds, cpu, lr, max_len, start):
    """Listwise training on the judgments of even queries (and labelled synthetic ones) with hard negatives.

    It ends after so many seconds, or so many of processor time (which sets the pace where others are at work)."""
    import torch
    rng = random.Random(11)
    rows, slice_ = {}, []
    for t, d in P.data.items():
        even = [r for r in d["rows"] if r["kind"] == "even" and not r["leak"] and r["rel"]]
        rng.shuffle(even)
        k = 0 if t in FOREIGN else max(1, min(8, len(even) // 5))
        slice_ += [(t, r) for r in even[:k]]
        rows[t] = even[k:]
        syn = [r for r in d["rows"] if r["kind"] == "syn" and r["rel"]]
        if syn:
            rows[t + "+syn"] = syn
        plain = [r for r in d["rows"] if r["kind"] == "syn" and not r["rel"]]
        if plain:
            rows[t + "+plain"] = plain
    names = [t for t in rows if rows[t]]
    wt = [math.sqrt(len(rows[t])) * (0.25 if t in FOREIGN else 0.5 if "+" in t else 1.0) for t in names]
    print("tune:", {t: len(rows[t]) for t in names}, "slice", len(slice_), flush=True)

    def group(t, r, k=8):
        texts, rel = P.data[t]["texts"], r["rel"]
        near = [int(d) for d in r["hyb"] if d not in rel]
        pos_near = [int(d) for d in r["hyb"] if d in rel]
        pos = rng.choice(pos_near) if pos_near and rng.random() < 0.7 else rng.choice(list(rel))
        tail = [int(d) for d in r["docs"][50:] if d not in rel]
        neg = rng.sample(near[:15], min(4, len(near[:15])))
        neg += rng.sample([d for d in near[15:] + tail if d not in neg], min(k - 1 - len(neg), max(0, len(near[15:] + tail))))
        while len(neg) < k - 1:
            d = rng.randrange(len(texts))
            if d not in rel:
                neg.append(d)
        at = {int(d): j for j, d in enumerate(r["docs"])}
        T = teacher(r, W)
        return [(r["q"], texts[d], float(T[at[d]]) if d in at else float("nan")) for d in [pos] + neg]

    def quality(model, depth=20):
        pairs = [P.pair(r["q"], P.data[t]["texts"][d], max_len) for t, r in slice_ for d in r["hyb"][:depth]]
        y, at, by = predict(model, pairs), 0, defaultdict(list)
        for t, r in slice_:
            h = r["hyb"][:depth]
            by[t].append((ndcg(h[np.argsort(-y[at:at + len(h)], kind="stable")], r["rel"]), ndcg(h, r["rel"]))); at += len(h)
        return float(np.mean([np.mean([a for a, _ in v]) for v in by.values()])), float(np.mean([np.mean([b for _, b in v]) for v in by.values()]))

    model = new_model(start)
    opt, t0, step, pairs, run, said = optimizer(model, lr), time.time(), 0, 0, [], time.time()
    best, hyb, log, used = 0.0, 0.0, [], time.process_time()
    c0 = used
    while True:
        part, wall = (time.process_time() - c0) / cpu, (time.time() - t0) / seconds
        threads()
        if time.process_time() - used > 240 or max(part, wall) >= 1:
            got, hyb = quality(model)
            log.append((pairs, got))
            print(f"  slice nDCG@10 {got:.4f} (hybrid {hyb:.4f})", flush=True)
            if got > best:
                best = got; save(model, f"{WORK}/tuned")
            used = time.process_time()
            if max(part, wall) >= 1:
                break
        if time.time() - said > 150:
            save(model, f"{WORK}/last"); said = time.time()
        t = rng.choices(names, wt)[0]
        name, _, sort = t.partition("+")
        gs = [spread(name, rng.choice(rows[t]), 8, W) if sort == "plain" else group(name, rng.choice(rows[t])) for _ in range(8)]
        gs = [g for g in gs if len(g) == 8]
        if not gs:
            continue
        model.train()
        cut = rng.choice([2 * max_len // 3, max_len])
        p = forward(model, P.batch([P.pair(q, d, cut) for g in gs for q, d, _ in g])).view(len(gs), -1)
        y = torch.tensor([[x for _, _, x in g] for g in gs])
        ok = ~torch.isnan(y)
        ok[:, 0] &= sort == "plain"  # what is judged right need not please the teacher
        n = ok.sum(1, keepdim=True).clamp(min=1)
        e = torch.where(ok, p - torch.nan_to_num(y), 0.0)
        e = torch.where(ok, e - e.sum(1, keepdim=True) / n, 0.0)
        ce = torch.nn.functional.cross_entropy(p, torch.zeros(len(gs), dtype=torch.long))
        like = e.pow(2).sum() / n.sum()
        loss = like if sort == "plain" else ce + (0.05 + 0.5 * max(0.0, 1 - part)) * like
        loss.backward()
        torch.nn.utils.clip_grad_norm_([q for q in model.parameters() if q.requires_grad], 1.0)
        schedule(opt, lr, part, 0.03, wall)
        opt.step(); opt.zero_grad(set_to_none=True)
        step += 1; pairs += p.numel(); run += [] if sort == "plain" else [ce.item()]
        if step % 50 == 0:
            print(f"step {step} pairs {pairs} {time.time() - t0:.0f} s cpu {time.process_time() - c0:.0f} ce {np.mean(run[-50:]):.3f}", flush=True)
    json.dump(dict(pairs=pairs, steps=step, seconds=time.time() - t0, cpu=time.process_time() - c0, lr=lr, first=float(np.mean(run[:50])), last=float(np.mean(run[-100:])), log=log, hybrid=hyb), open(f"{WORK}/tune.json", "w"))


NR = np.random.default_rng(5)
W = 0.15  # the share of BM25 in the teacher, chosen on even queries
if __name__ == "__main__":
    import torch
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2"))); torch.manual_seed(7)
    if sys.argv[1] == "prep":
        prep()
    else:
        P = Pairs(load_prep())
        if sys.argv[1] == "distill":
            distill(float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
        else:
            tune(float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
