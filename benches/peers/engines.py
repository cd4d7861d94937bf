"""One small class per engine: build, save, load, search. All with M 16 (32 links on the ground level) and a building beam of 200.

Vectors are of unit length, so every engine compares by inner product. A search is one call for all queries, so that Python's own time
is not measured; the engine shares them among its threads.
"""

import importlib.metadata

M = 16
EF_CONSTRUCTION = 200


class Hnswlib:
    package = "hnswlib"

    def build(self, base, threads):
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=base.shape[1])
        self.index.init_index(max_elements=len(base), M=M, ef_construction=EF_CONSTRUCTION)
        self.index.add_items(base, num_threads=threads)

    def save(self, path):
        self.index.save_index(path)

    def load(self, path, dims):
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=dims)
        self.index.load_index(path)

    def search(self, queries, k, ef, threads):
        self.index.set_ef(ef)
        return self.index.knn_query(queries, k, num_threads=threads)[0]


class FaissHnsw:
    package = "faiss-cpu"

    def new(self, faiss, dims):
        return faiss.IndexHNSWFlat(dims, M, faiss.METRIC_INNER_PRODUCT)

    def build(self, base, threads):
        import faiss

        faiss.omp_set_num_threads(threads)
        self.index = self.new(faiss, base.shape[1])
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self.index.train(base)
        self.index.add(base)

    def save(self, path):
        import faiss

        faiss.write_index(self.index, path)

    def load(self, path, dims):
        import faiss

        self.index = faiss.read_index(path)

    def search(self, queries, k, ef, threads):
        import faiss

        faiss.omp_set_num_threads(threads)
        self.index.hnsw.efSearch = ef
        return self.index.search(queries, k)[1]


class FaissHnswSq8(FaissHnsw):
    """Vectors in 8 bits a number; what it finds is not compared in full precision again."""

    def new(self, faiss, dims):
        return faiss.IndexHNSWSQ(dims, faiss.ScalarQuantizer.QT_8bit, M, faiss.METRIC_INNER_PRODUCT)


class Usearch:
    package = "usearch"
    dtype = "f32"

    def build(self, base, threads):
        import numpy
        from usearch.index import Index

        self.index = Index(ndim=base.shape[1], metric="ip", dtype=self.dtype, connectivity=M, expansion_add=EF_CONSTRUCTION)
        self.index.add(numpy.arange(len(base), dtype=numpy.uint64), base, threads=threads)

    def save(self, path):
        self.index.save(path)

    def load(self, path, dims):
        from usearch.index import Index

        self.index = Index.restore(path)

    def search(self, queries, k, ef, threads):
        self.index.expansion_search = ef
        return self.index.search(queries, k, threads=threads).keys


class UsearchBf16(Usearch):
    """Vectors in bfloat16, for which usearch has kernels of its own on CPUs with that instruction."""

    dtype = "bf16"


class UsearchI8(Usearch):
    """Vectors in 8 bits a number."""

    dtype = "i8"


class SymphonyQG:
    """Degree 32; a graph whose links carry 1-bit codes of the neighbours, raw vectors beside."""

    package = "rabitqlib"

    def build(self, base, threads):
        import rabitqlib

        self.index = rabitqlib.SymqgIndex(base.shape[1], 2 * M, metric="ip")
        self.index.build(base, EF_CONSTRUCTION, num_threads=threads)

    def save(self, path):
        self.index.save(path)

    def load(self, path, dims):
        import rabitqlib

        self.index = rabitqlib.SymqgIndex.load(path)

    def search(self, queries, k, ef, threads):
        return self.index.search(queries, k, ef, num_threads=threads)[0]


ENGINES = {
    "hnswlib": Hnswlib,
    "faiss-hnsw": FaissHnsw,
    "faiss-hnsw-sq8": FaissHnswSq8,
    "usearch": Usearch,
    "usearch-bf16": UsearchBf16,
    "usearch-i8": UsearchI8,
    "symphonyqg": SymphonyQG,
}


def version(engine):
    return importlib.metadata.version(ENGINES[engine].package)
