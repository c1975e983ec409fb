"""Sources of the native kernels. Only the compiler imports them: a process that finds its kernels on disk never does."""
