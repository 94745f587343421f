"""What a training needs: memory, time and devices, before it begins."""
