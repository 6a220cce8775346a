/*
 * Lets user-mode Linux run on processors with more registers than it knows, such as AMX.
 *
 * It saves and sets the extended registers (NT_X86_XSTATE) of its processes with a buffer of 2,696
 * bytes. A kernel whose processor has more refuses to set a part of them (EFAULT), and the guest
 * dies at its first process. Preloaded, this function reads all registers and hands over the part
 * that was asked for; to set a part, it puts that into the present whole. The guest's programs do
 * not see the registers beyond: the guest's kernel has no way to allow them.
 */
#include <errno.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Not on the stack: the stacks of user-mode Linux are small. */
static __thread char whole[1 << 16];

static long set_part(pid_t pid, const struct iovec *part)
{
    struct iovec all = {whole, sizeof whole};

    if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all) < 0)
        return -1;
    if (part->iov_len < all.iov_len)
        memcpy(whole, part->iov_base, part->iov_len);
    else
        all = *part;
    return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list rest;
    va_start(rest, request);
    pid_t pid = va_arg(rest, pid_t);
    void *address = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);

    if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
        return set_part(pid, data);

    /* As the C library does: the kernel stores the word that is read, and the caller wants it returned. */
    long word = 0;
    int reads = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER;
    long result = syscall(SYS_ptrace, request, pid, address, reads ? &word : data);
    if (!reads || result < 0)
        return result;
    errno = 0;
    return word;
}
