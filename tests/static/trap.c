// A name service module that ends the program that loads it, and says so by its exit code. It needs no C library.
__attribute__((constructor)) static void loaded(void) {
#if defined(__x86_64__)
    __asm__ volatile("syscall" : : "a"(231), "D"(99));
#elif defined(__aarch64__)
    register long number __asm__("x8") = 94, code __asm__("x0") = 99;
    __asm__ volatile("svc 0" : : "r"(number), "r"(code));
#endif
}
