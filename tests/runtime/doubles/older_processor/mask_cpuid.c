/* Hides AVX-512, VNNI and AMX from a process: LD_PRELOAD=mask_cpuid.so. x86-64 Linux on a processor that can
 * trap CPUID. Where it cannot, the process ends with exit code 77.
 *
 * CPUID then raises SIGSEGV; the handler executes it, clears the bits and goes on. What a program takes from
 * CPUID is real but for them, so libraries choose their AVX2 kernels, at full speed.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012

/* Leaf 7, subleaf 0: AVX512 F DQ IFMA PF ER CD BW VL; VBMI VBMI2 VNNI BITALG VPOPCNTDQ; 4VNNIW 4FMAPS
 * VP2INTERSECT AMX FP16. Leaf 7, subleaf 1: AVX-VNNI, AVX512-BF16; AVX-VNNI-INT8 and -INT16. */
static const uint32_t LEAF_7_0[4] = {0, 0xDC230000u, 0x00005842u, 0x03C0010Cu};
static const uint32_t LEAF_7_1[4] = {0x00000030u, 0, 0, 0x00000410u};

static long let_cpuid(unsigned long on) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, on); }

static void on_fault(int number, siginfo_t *info, void *context) {
  (void)info;
  greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
  const uint8_t *code = (const uint8_t *)r[REG_RIP];
  if (code[0] != 0x0F || code[1] != 0xA2) { /* a real fault: it repeats, and ends the process */
    signal(number, SIG_DFL);
    return;
  }
  uint32_t leaf = (uint32_t)r[REG_RAX], subleaf = (uint32_t)r[REG_RCX];
  uint32_t a = leaf, b, c = subleaf, d;
  let_cpuid(1);
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  let_cpuid(0);
  const uint32_t *hidden = leaf != 7 || subleaf > 1 ? 0 : subleaf ? LEAF_7_1 : LEAF_7_0;
  if (hidden) {
    a &= ~hidden[0];
    b &= ~hidden[1];
    c &= ~hidden[2];
    d &= ~hidden[3];
  }
  r[REG_RAX] = a;
  r[REG_RBX] = b;
  r[REG_RCX] = c;
  r[REG_RDX] = d;
  r[REG_RIP] += 2;
}

__attribute__((constructor)) static void start(void) {
  struct sigaction action = {0};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGSEGV, &action, 0);
  if (let_cpuid(0)) _exit(77);
}
