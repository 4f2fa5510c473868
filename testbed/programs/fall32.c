/* A 32-bit program that writes to address 0x1000 at once; it needs no library of that size. */
void _start(void)
{
	*(volatile int *)0x1000 = 42;
}
