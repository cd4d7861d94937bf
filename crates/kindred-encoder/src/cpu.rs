//! What the processor does to products of bytes.

/// Whether ONNX Runtime sums products of unsigned and signed bytes exactly on this processor.
///
/// On x86-64 its kernels use `vpdpbusd` where the processor has VNNI, which adds in 32 bits. Elsewhere they use `vpmaddubsw`, which adds
/// two products in 16 bits and clamps the sum to 32,767. On other architectures the kernels widen first.
///
/// *Source*: `MLAS_PLATFORM` in ONNX Runtime's `core/mlas/lib/platform.cpp`. Its AVX-512 kernels replace those of AVX-VNNI.
pub fn sums_byte_products_exactly() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if has_avx512 { is_x86_feature_detected!("avx512vnni") } else { is_x86_feature_detected!("avxvnni") }
    }
    #[cfg(not(target_arch = "x86_64"))]
    true
}
