//! AMX: eight registers of 16 x 16 32-bit values each, and products of bf16 pairs between them.
//!
//! Rust's intrinsics for AMX are not stable, so its instructions are written as inline assembly. Tiles are configured once
//! per task and used only within single blocks of assembly, so that the compiler need not know about them.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::mem::offset_of;
use std::sync::OnceLock;

use super::Tiles;

/// Whether the processor has tiles with bf16 products and the operating system lets this process use them.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| processor_has_tiles() && system_permits_tiles())
}

fn processor_has_tiles() -> bool {
    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
    __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).edx & BF16_AND_TILE == BF16_AND_TILE
}

/// Linux saves tile registers only for processes that have requested it.
#[cfg(target_os = "linux")]
fn system_permits_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the request only changes which registers the kernel saves for this process; kernels that do not know it refuse
    // it.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn system_permits_tiles() -> bool {
    false
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All eight tiles have 16 rows of 64 bytes.
static WHOLE: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Tiles are configured while this value lives. After that, the system has no tiles to save when it switches threads.
pub(super) struct Configured(());

impl Configured {
    /// # Safety
    /// [`available`] must have returned true.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        // SAFETY: the operand is a valid configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE, options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Configured {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `new` configured them.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// One block of assembly: zeroes the accumulators, runs `body` once for each step of the inner dimension, and stores the
/// sums.
///
/// Accumulators are tmm0 (upper left), tmm1 (upper right), tmm2 and tmm3 (lower). tmm4 and tmm5 hold rows of the left side,
/// tmm6 and tmm7 columns of the right side. In the body, `upper` and `lower` are the addresses of the step's rows; `at` is
/// free for other addresses.
macro_rules! sum {
    ($tiles:ident, [$($zero:literal),*], [$($body:literal),* $(,)?], [$($store:literal),*]) => {
        asm!(
            $($zero,)*
            "test {steps}, {steps}",
            "jz 3f",
            "2:",
            "mov {lower}, [{offsets}]",
            "lea {upper}, [{left} + {lower}]",
            "add {lower}, {second}",
            $($body,)*
            "add {offsets}, 8",
            "dec {steps}",
            "jnz 2b",
            "3:",
            // From here on `upper` and `lower` are where the sums go, `left_stride` is what lies between their rows.
            "mov {upper}, [{tiles} + {to}]",
            "mov {left_stride}, [{tiles} + {stride}]",
            "mov {lower}, {left_stride}",
            "shl {lower}, 4",
            "add {lower}, {upper}",
            $($store,)*
            tiles = in(reg) &raw const $tiles,
            to = const offset_of!(Tiles<'_>, to),
            stride = const offset_of!(Tiles<'_>, stride_bytes),
            steps = inout(reg) $tiles.offsets.len() => _,
            offsets = inout(reg) $tiles.offsets.as_ptr() => _,
            left = in(reg) $tiles.left[0],
            second = in(reg) $tiles.left[1],
            left_stride = inout(reg) $tiles.row_bytes => _,
            part = in(reg) $tiles.part_bytes,
            right = inout(reg) $tiles.right => _,
            right_stride = in(reg) 128_usize,
            upper = out(reg) _,
            lower = out(reg) _,
            at = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// # Safety
/// Tiles must be configured, and the pointers must be valid for what [`Tiles`] says of them.
#[inline(always)]
pub(super) unsafe fn multiply(tiles: Tiles<'_>) {
    // SAFETY: every load lies in the rows and words that `Tiles` describes, every store in the rows and columns of its
    // result.
    unsafe {
        match (tiles.split, tiles.wide) {
            (false, true) => pairs_wide(tiles),
            (false, false) => pairs_narrow(tiles),
            (true, true) => split_wide(tiles),
            (true, false) => split_narrow(tiles),
        }
    }
}

#[inline(always)]
unsafe fn pairs_wide(tiles: Tiles<'_>) {
    // SAFETY: see `multiply`.
    unsafe {
        sum!(
            tiles,
            ["tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"],
            [
                "tileloadd tmm4, [{upper} + {left_stride}*1]",
                "tileloadd tmm6, [{right} + {right_stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right} + {right_stride}*1 + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{lower} + {left_stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {right}, 2048",
                "/* {part} {at} */",
            ],
            [
                "tilestored [{upper} + {left_stride}*1], tmm0",
                "tilestored [{upper} + {left_stride}*1 + 64], tmm1",
                "tilestored [{lower} + {left_stride}*1], tmm2",
                "tilestored [{lower} + {left_stride}*1 + 64], tmm3"
            ]
        );
    }
}

#[inline(always)]
unsafe fn pairs_narrow(tiles: Tiles<'_>) {
    // SAFETY: see `multiply`.
    unsafe {
        sum!(
            tiles,
            ["tilezero tmm0", "tilezero tmm2"],
            [
                "tileloadd tmm4, [{upper} + {left_stride}*1]",
                "tileloadd tmm6, [{right} + {right_stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{lower} + {left_stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "add {right}, 2048",
                "/* {part} {at} */",
            ],
            ["tilestored [{upper} + {left_stride}*1], tmm0", "tilestored [{lower} + {left_stride}*1], tmm2"]
        );
    }
}

// Split factors a = a0 + a1 + a2 and b = b0 + b1 + b2 (each part is 8 bits of the value): a0 b0 + a2 b0 + a1 b0 + a1 b1 + a0
// b1 + a0 b2. The omitted terms, a1 b2 + a2 b1 + a2 b2, are below 2^-22 of the product, which is f32's own rounding.

#[inline(always)]
unsafe fn split_wide(tiles: Tiles<'_>) {
    // SAFETY: see `multiply`.
    unsafe {
        sum!(
            tiles,
            ["tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"],
            [
                "tileloadd tmm4, [{upper} + {left_stride}*1]",
                "tileloadd tmm6, [{right} + {right_stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right} + {right_stride}*1 + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{lower} + {left_stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "lea {at}, [{upper} + {part}*2]",
                "tileloadd tmm4, [{at} + {left_stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "lea {at}, [{lower} + {part}*2]",
                "tileloadd tmm5, [{at} + {left_stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "lea {at}, [{upper} + {part}]",
                "tileloadd tmm4, [{at} + {left_stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "lea {at}, [{lower} + {part}]",
                "tileloadd tmm5, [{at} + {left_stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm6, [{right} + {right_stride}*1 + 2048]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{right} + {right_stride}*1 + 2112]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm4, [{upper} + {left_stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{lower} + {left_stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm6, [{right} + {right_stride}*1 + 4096]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{right} + {right_stride}*1 + 4160]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {right}, 6144",
            ],
            [
                "tilestored [{upper} + {left_stride}*1], tmm0",
                "tilestored [{upper} + {left_stride}*1 + 64], tmm1",
                "tilestored [{lower} + {left_stride}*1], tmm2",
                "tilestored [{lower} + {left_stride}*1 + 64], tmm3"
            ]
        );
    }
}

#[inline(always)]
unsafe fn split_narrow(tiles: Tiles<'_>) {
    // SAFETY: see `multiply`.
    unsafe {
        sum!(
            tiles,
            ["tilezero tmm0", "tilezero tmm2"],
            [
                "tileloadd tmm4, [{upper} + {left_stride}*1]",
                "tileloadd tmm6, [{right} + {right_stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{lower} + {left_stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{right} + {right_stride}*1 + 2048]",
                "tdpbf16ps tmm0, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm7",
                "tileloadd tmm7, [{right} + {right_stride}*1 + 4096]",
                "tdpbf16ps tmm0, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm7",
                "lea {at}, [{upper} + {part}*2]",
                "tileloadd tmm4, [{at} + {left_stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "lea {at}, [{lower} + {part}*2]",
                "tileloadd tmm5, [{at} + {left_stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "lea {at}, [{upper} + {part}]",
                "tileloadd tmm4, [{at} + {left_stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "lea {at}, [{lower} + {part}]",
                "tileloadd tmm5, [{at} + {left_stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{right} + {right_stride}*1 + 2048]",
                "tdpbf16ps tmm0, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm7",
                "add {right}, 6144",
            ],
            ["tilestored [{upper} + {left_stride}*1], tmm0", "tilestored [{lower} + {left_stride}*1], tmm2"]
        );
    }
}
