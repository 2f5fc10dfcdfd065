//! System calls that the kernel refuses, by a filter of the thread that asks for it and of whatever it starts.

/// One kind of call that is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    pub(crate) call: libc::c_long,
    /// Only where this argument has this value.
    pub(crate) with: Option<(u32, u32)>,
}

/// From here on these calls of the calling thread, of its threads and of its children fail with `errno`.
#[allow(unsafe_code)]
pub(crate) fn refuse(calls: &[Refused], errno: libc::c_int) {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    /// Where the call's number and its arguments, of 64 bits each, lie.
    const NUMBER: u32 = 0;
    const ARGUMENTS: u32 = 16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let refusal = step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32);
    let allow = step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    let low_half = if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut program = Vec::new();
    for Refused { call, with } in calls {
        program.push(step(LOAD_WORD, 0, 0, NUMBER));
        match with {
            None => program.extend([step(JUMP_IF_EQUAL, 0, 1, *call as u32), refusal]),
            Some((index, value)) => program.extend([
                step(JUMP_IF_EQUAL, 0, 3, *call as u32),
                step(LOAD_WORD, 0, 0, ARGUMENTS + 8 * index + low_half),
                step(JUMP_IF_EQUAL, 0, 1, *value),
                refusal,
            ]),
        }
    }
    program.push(allow);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: neither call touches memory but the program, which lives until they return.
    let is_set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(is_set, "no filter: {}", std::io::Error::last_os_error());
}
